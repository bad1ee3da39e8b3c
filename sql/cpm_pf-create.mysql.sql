-- Copyright (C) 2026 the cpm_pf authors
-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- The tables of cpm_pf, for MySQL and MariaDB. "tools/cpm-db.sh create" reads
-- this file, and may do so again: what is there stays as it is.
--
-- utf8mb4_bin: bob and Bob are two users (RFC 3261, 19.1.4).

-- As Kamailio's own standard-create.sql has it.
CREATE TABLE IF NOT EXISTS `version` (
    `id` INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
    `table_name` VARCHAR(32) NOT NULL,
    `table_version` INT UNSIGNED DEFAULT 0 NOT NULL,
    CONSTRAINT table_name_idx UNIQUE (`table_name`)
);

-- One row for each user; who has none is unknown.
--   when_offline   defer | store | reject | interwork | discard
--   queue_mode     push | notify
--   on_expiry      delete | store
--   enabled, record_copy   0 | 1
CREATE TABLE IF NOT EXISTS `cpm_user` (
    `id` INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
    `username` VARCHAR(64) DEFAULT '' NOT NULL,
    `domain` VARCHAR(64) DEFAULT '' NOT NULL,
    `enabled` INT(11) DEFAULT 1 NOT NULL,
    `service_class` VARCHAR(64) DEFAULT '' NOT NULL,
    `when_offline` VARCHAR(16) DEFAULT 'defer' NOT NULL,
    `queue_mode` VARCHAR(16) DEFAULT 'push' NOT NULL,
    `on_expiry` VARCHAR(16) DEFAULT 'delete' NOT NULL,
    `record_copy` INT(11) DEFAULT 0 NOT NULL,
    CONSTRAINT account_idx UNIQUE (`username`, `domain`)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Rules of users. Those of a user are tried by priority, lowest number first;
-- the first that matches wins. All conditions must hold; empty and 0: any.
--   originator     URI, *@domain, tel:+44*, or anonymous
--   content_type   text/plain, text/*
--   message_kind   pager | large
--   min_size, max_size         bytes
--   device         +sip.instance or pub-gruu of one client
--   valid_from, valid_until    seconds since 1970, UTC
--   action         deliver | reject | interwork | store | queue | defer
CREATE TABLE IF NOT EXISTS `cpm_rule` (
    `id` INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
    `username` VARCHAR(64) DEFAULT '' NOT NULL,
    `domain` VARCHAR(64) DEFAULT '' NOT NULL,
    `priority` INT(11) DEFAULT 0 NOT NULL,
    `originator` VARCHAR(255) DEFAULT '' NOT NULL,
    `content_type` VARCHAR(128) DEFAULT '' NOT NULL,
    `message_kind` VARCHAR(16) DEFAULT '' NOT NULL,
    `min_size` BIGINT DEFAULT 0 NOT NULL,
    `max_size` BIGINT DEFAULT 0 NOT NULL,
    `device` VARCHAR(255) DEFAULT '' NOT NULL,
    `valid_from` BIGINT DEFAULT 0 NOT NULL,
    `valid_until` BIGINT DEFAULT 0 NOT NULL,
    `action` VARCHAR(16) NOT NULL,
    INDEX account_idx (`username`, `domain`)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What the provider allows, by service class. The row with an empty
-- service_class is for users without one; without a row all is allowed.
-- 0 and empty: no limit, or that of the module's parameters.
--   max_size, queue_max_bytes  bytes
--   accept_types   text/plain, image/*
--   max_expires    seconds
--   deliver_max_size   bytes that a client takes in one MESSAGE, by what it
--                      is capable of: msg=1300,largemsg=1048576,*=8000
CREATE TABLE IF NOT EXISTS `cpm_policy` (
    `id` INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
    `service_class` VARCHAR(64) DEFAULT '' NOT NULL,
    `max_size` BIGINT DEFAULT 0 NOT NULL,
    `accept_types` VARCHAR(511) DEFAULT '' NOT NULL,
    `allow_anonymous` INT(11) DEFAULT 1 NOT NULL,
    `allow_send` INT(11) DEFAULT 1 NOT NULL,
    `require_ids` INT(11) DEFAULT 0 NOT NULL,
    `queue_max_messages` BIGINT DEFAULT 0 NOT NULL,
    `queue_max_bytes` BIGINT DEFAULT 0 NOT NULL,
    `max_expires` BIGINT DEFAULT 0 NOT NULL,
    `deliver_max_size` VARCHAR(255) DEFAULT '' NOT NULL,
    `notify_fields` VARCHAR(127) DEFAULT '' NOT NULL,
    CONSTRAINT service_class_idx UNIQUE (`service_class`)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO version (table_name, table_version)
    SELECT 'version', 1 FROM DUAL WHERE NOT EXISTS
        (SELECT 1 FROM version WHERE table_name = 'version');
INSERT INTO version (table_name, table_version)
    SELECT 'cpm_user', 1 FROM DUAL WHERE NOT EXISTS
        (SELECT 1 FROM version WHERE table_name = 'cpm_user');
INSERT INTO version (table_name, table_version)
    SELECT 'cpm_rule', 1 FROM DUAL WHERE NOT EXISTS
        (SELECT 1 FROM version WHERE table_name = 'cpm_rule');
INSERT INTO version (table_name, table_version)
    SELECT 'cpm_policy', 1 FROM DUAL WHERE NOT EXISTS
        (SELECT 1 FROM version WHERE table_name = 'cpm_policy');
