-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- Sample users of example.org, for a first look and for "make run"; for any of
-- the databases. Can be read again: it brings them back to what is said here.

DELETE FROM cpm_rule WHERE domain = 'example.org' AND username IN
    ('alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace');
DELETE FROM cpm_user WHERE domain = 'example.org' AND username IN
    ('alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace');
DELETE FROM cpm_policy WHERE service_class IN ('standard', 'basic');

-- standard: no limits but those of the module's parameters
INSERT INTO cpm_policy (service_class) VALUES ('standard');

-- basic: texts and pictures up to 64 KB, a small queue for three days, nobody
-- anonymous
INSERT INTO cpm_policy (service_class, max_size, accept_types, allow_anonymous,
        queue_max_messages, queue_max_bytes, max_expires, deliver_max_size)
    VALUES ('basic', 65536, 'text/plain, message/cpim, image/*', 0,
        50, 1048576, 259200, 'msg=1300,largemsg=65536,*=8000');

-- alice and bob: as everybody who never changed anything
INSERT INTO cpm_user (username, domain, service_class)
    VALUES ('alice', 'example.org', 'standard');
INSERT INTO cpm_user (username, domain, service_class)
    VALUES ('bob', 'example.org', 'standard');

-- carol wants to be told of what waits, and to fetch it herself
INSERT INTO cpm_user (username, domain, service_class, queue_mode)
    VALUES ('carol', 'example.org', 'standard', 'notify');

-- dave keeps everything: in the storage when he is offline, a copy otherwise
INSERT INTO cpm_user (username, domain, service_class, when_offline, on_expiry,
        record_copy)
    VALUES ('dave', 'example.org', 'standard', 'store', 'store', 1);

-- erin hears of nobody anonymous, decides herself about what is large, and
-- gets the rest, except from one domain
INSERT INTO cpm_user (username, domain, service_class)
    VALUES ('erin', 'example.org', 'basic');
INSERT INTO cpm_rule (username, domain, priority, originator, action)
    VALUES ('erin', 'example.org', 10, 'anonymous', 'reject');
INSERT INTO cpm_rule (username, domain, priority, originator, action)
    VALUES ('erin', 'example.org', 20, '*@spam.example', 'reject');
INSERT INTO cpm_rule (username, domain, priority, message_kind, action)
    VALUES ('erin', 'example.org', 30, 'large', 'queue');

-- frank's phone gets no pictures, his other clients do; in 2030 all goes to
-- the storage
INSERT INTO cpm_user (username, domain, service_class)
    VALUES ('frank', 'example.org', 'standard');
INSERT INTO cpm_rule (username, domain, priority, valid_from, valid_until,
        action)
    VALUES ('frank', 'example.org', 5, 1893456000, 1924992000, 'store');
INSERT INTO cpm_rule (username, domain, priority, content_type, device, action)
    VALUES ('frank', 'example.org', 10, 'image/*',
        'urn:uuid:00000000-0000-1000-8000-000a95a0e128', 'defer');

-- grace has left: there is no such user, to those who write to her
INSERT INTO cpm_user (username, domain, enabled)
    VALUES ('grace', 'example.org', 0);
