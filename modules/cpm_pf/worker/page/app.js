/* Copyright (C) 2026 the cpm_pf authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The operator's page: shows what the HTTP API gives, and asks it to act.
 *
 * What comes from a message is written by strangers. It gets into the page as
 * text nodes only (h(), said()), never as markup, and never into a URL but
 * percent-encoded behind "#/" or "/v1/". The endpoint forbids the rest by its
 * Content-Security-Policy, which also wants Trusted Types and names none.
 */
'use strict';

(() => {

const POLL_MS = 5000;
const ANSWER_MS = 15000;      /* a request without an answer has failed */
const WINDOW_MS = 300000;     /* of the charts */
const GAP_MS = 20000;         /* samples farther apart are not joined */
const PAGE = 50;              /* rows; the server allows 500 */
const BODY_SHOWN = 65536;     /* bytes of a body */

/* ------------------------------------------------------------- elements */

/* h('p', {class: 'x', onclick: f}, 'text', node, [more]): strings become text
 * nodes; null and false are left out. */
function h(tag, props, ...children) {
	return fill(document.createElement(tag), props, children);
}

function svg(tag, props, ...children) {
	return fill(document.createElementNS('http://www.w3.org/2000/svg', tag),
			props, children);
}

function fill(el, props, children) {
	for(const [name, value] of Object.entries(props || {})) {
		if(value === null || value === undefined || value === false)
			continue;
		if(name.startsWith('on'))
			el.addEventListener(name.slice(2), value);
		else
			el.setAttribute(name, value === true ? '' : String(value));
	}
	for(const child of children.flat(Infinity))
		if(child !== null && child !== undefined && child !== false)
			el.append(child);
	return el;
}

const $ = (id) => document.getElementById(id);

function setText(el, text) {
	if(el.textContent !== text)
		el.textContent = text;
}

/* Characters that cannot be seen, or turn the order of others round, are shown
 * by their numbers: nobody is to look like somebody else. */
const ODD = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const ODD_IN_BODY = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

function visible(text, odd = ODD) {
	return String(text).replace(odd,
			(c) => '\\u{' + c.codePointAt(0).toString(16).padStart(4, '0') + '}');
}

/* What a stranger wrote, kept apart from the direction of what is around. */
function said(text, none = '–') {
	if(text === null || text === undefined || text === '')
		return h('span', {class: 'none'}, none);
	return h('bdi', {}, visible(text));
}

/* -------------------------------------------------------- numbers, times */

const numbers = new Intl.NumberFormat('en');
const count = (n) => numbers.format(n);
const plural = (n, one, many) => count(n) + ' ' + (n === 1 ? one : many);

/* [number, unit] */
function bytesParts(n) {
	const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
	let i = 0;
	while(n >= 1000 && i < units.length - 1) {
		n /= 1000;
		i++;
	}
	return [i === 0 || n >= 100 ? count(Math.round(n)) : n.toFixed(1), units[i]];
}

function size(n) {
	return h('span', {title: count(n) + ' bytes'}, bytesParts(n).join(' '));
}

/* The server's clock counts, as its dates are shown: ms to add to ours. */
let skew = 0;
const now = () => Date.now() + skew;

function learnSkew(response) {
	const at = Date.parse(response.headers.get('Date') || '');
	if(!Number.isNaN(at))
		skew = Math.abs(at - Date.now()) > 3000 ? at - Date.now() : 0;
}

/* [number, unit] of a span of time */
function spanParts(ms) {
	const s = Math.max(0, ms) / 1000;
	if(s < 60)
		return [String(Math.floor(s)), 's'];
	if(s < 3600)
		return [String(Math.floor(s / 60)), 'min'];
	if(s < 48 * 3600)
		return [String(Math.floor(s / 3600)), 'h'];
	return [count(Math.floor(s / 86400)), 'days'];
}

function relative(at) {
	const d = at - now();
	if(Math.abs(d) < 1000)
		return 'now';
	const span = spanParts(Math.abs(d)).join(' ');
	return d < 0 ? span + ' ago' : 'in ' + span;
}

/* Relative, the exact one as its title; tick() keeps it true. */
function when(iso, none = '–') {
	const at = Date.parse(iso || '');
	if(Number.isNaN(at))
		return h('span', {class: 'none'}, none);
	return h('time', {datetime: iso, title: exact(iso), 'data-at': at},
			relative(at));
}

const exact = (iso) => iso.replace('T', ' ').replace('Z', ' UTC');

function tick() {
	for(const el of document.querySelectorAll('time[data-at]'))
		setText(el, relative(Number(el.dataset.at)));
}

/* ------------------------------------------------------------- the server */

class Refused extends Error {
	constructor(status, title, detail) {
		super(detail || title);
		this.status = status;
		this.title = title;
		this.detail = detail || '';
	}
}

const token = {
	get: () => sessionStorage.getItem('token'),
	set: (value) => sessionStorage.setItem('token', value),
	forget: () => sessionStorage.removeItem('token'),
};

let locked = false;           /* no request until a token is given */

function setRight(right) {
	document.body.classList.toggle('read-only', right === 'read');
	$('right').hidden = right !== 'read';
}

async function problemOf(response) {
	try {
		const p = await response.json();
		return new Refused(response.status, visible(p.title || response.status),
				visible(p.detail || ''));
	} catch(e) {
		return new Refused(response.status, 'Status ' + response.status, '');
	}
}

async function send(method, path, options) {
	const stop = new AbortController();
	const timer = setTimeout(() => stop.abort(), ANSWER_MS);
	const headers = {};
	const bearer = options.token || token.get();

	if(bearer)
		headers.Authorization = 'Bearer ' + bearer;
	if(options.body)
		headers['Content-Type'] = 'application/json';
	if(options.signal)
		options.signal.addEventListener('abort', () => stop.abort());
	try {
		const response = await fetch(path, {
			method, headers,
			body: options.body ? JSON.stringify(options.body) : undefined,
			signal: stop.signal, cache: 'no-store', credentials: 'omit',
			redirect: 'error', referrerPolicy: 'no-referrer',
		});
		learnSkew(response);
		if(!response.ok)
			throw await problemOf(response);
		if(response.headers.get('Cpm-Pf-Right'))
			setRight(response.headers.get('Cpm-Pf-Right'));
		if(response.status === 204)
			return null;
		const text = await response.text();
		if(options.text)
			return text;
		return text === '' ? null : JSON.parse(text);
	} catch(e) {
		if(e instanceof Refused || (options.signal && options.signal.aborted))
			throw e;
		throw new Refused(0, 'No answer', e instanceof SyntaxError
				? 'What the server answered is not JSON.'
				: 'The server did not answer.');
	} finally {
		clearTimeout(timer);
	}
}

/* The JSON of an answer, or Refused. Asks for a token where one is needed. */
async function call(method, path, options = {}) {
	try {
		return await send(method, path, options);
	} catch(e) {
		if(e.status === 401 && !options.token) {
			const had = token.get() !== null;
			token.forget();
			lock(had ? 'The server does not accept this token.' : '');
		}
		if(e.status === 403 && (method === 'POST' || method === 'DELETE')) {
			e.readOnly = true;
			setRight('read');
		}
		throw e;
	}
}

function part(text) {
	/* the one spelling that no browser sends as it is (URL, 4.4) */
	if(text === '.' || text === '..')
		throw new Refused(0, 'Not from here',
				'A browser cannot ask for a message whose id is "' + text
				+ '"; kamcmd can, with cpm_pf.get and cpm_pf.discard.');
	return encodeURIComponent(text);
}

const queuePath = (user) => '/v1/queues/' + part(user);
const messagePath = (user, id) => queuePath(user) + '/messages/' + part(id);

function query(values) {
	const words = Object.entries(values).filter(
			([, v]) => v !== null && v !== undefined && v !== '');
	return words.length === 0 ? '' : '?' + words.map(
			([k, v]) => k + '=' + encodeURIComponent(v)).join('&');
}

/* --------------------------------------------------------------- metrics */

/* Sums over labels, without histograms' buckets: name without "cpm_pf_" and
 * "_total" -> {value, help}. */
function parseMetrics(text) {
	const all = new Map(), help = new Map();
	for(const line of text.split('\n')) {
		const about = /^# HELP cpm_pf_(\w+) (.*)$/.exec(line);
		if(about)
			help.set(about[1], about[2]);
		const m = /^cpm_pf_(\w+)(\{[^}]*\})? (\S+)/.exec(line);
		if(!m || /_bucket$/.test(m[1]) || /\bquantile=/.test(m[2] || ''))
			continue;
		const name = m[1].replace(/_total$/, '');
		const before = all.get(name);
		all.set(name, {
			value: (before ? before.value : 0) + Number(m[3]),
			help: help.get(m[1]) || '',
		});
	}
	return all;
}

const CURVES = [
	{name: 'queued', label: 'Queued', of: ['queued']},
	{name: 'delivered', label: 'Delivered',
		of: ['delivered_message', 'delivered_msrp', 'retrieved']},
	{name: 'expired', label: 'Expired', of: ['expired']},
	{name: 'refused', label: 'Refused',
		of: ['refused', 'quota_refused', 'unauthorised', 'rejected', 'unknown']},
];

let metrics = null;           /* Map, once there was an answer */
let samples = [];             /* {at, queued, delivered, ...}: sums */

function sampleLoad() {
	try {
		const old = JSON.parse(sessionStorage.getItem('samples') || '[]');
		samples = Array.isArray(old) ? old.filter((s) => s && s.at > 0) : [];
	} catch(e) {
		samples = [];
	}
}

function sampleTake() {
	if(!metrics.has('queued'))
		return; /* the endpoint runs by itself: nobody counts */
	const s = {at: Date.now()}, last = samples[samples.length - 1];
	if(last && s.at - last.at < POLL_MS / 2 && s.at >= last.at)
		return; /* a poll out of turn: too short a time to count in */
	for(const curve of CURVES)
		s[curve.name] = curve.of.reduce((sum, n) =>
				sum + (metrics.has(n) ? metrics.get(n).value : 0), 0);
	samples.push(s);
	samples = samples.filter((x) => x.at > s.at - WINDOW_MS - 2 * POLL_MS
			&& x.at <= s.at);
	sessionStorage.setItem('samples', JSON.stringify(samples));
}

/* [{at, rate}]; rate null: a gap, or Kamailio started anew in between */
function rates(name) {
	const out = [];
	for(let i = 1; i < samples.length; i++) {
		const a = samples[i - 1], b = samples[i], ms = b.at - a.at;
		const by = b[name] - a[name];
		if(ms > 0)
			out.push({at: b.at,
				rate: by < 0 || ms > GAP_MS ? null : by * 1000 / ms});
	}
	return out;
}

const rateText = (r) => r === 0 ? '0' : r < 10 ? r.toFixed(1) : count(Math.round(r));

/* ------------------------------------------------------------ the header */

function setLive(state, text) {
	$('live').dataset.state = state;
	setText($('live-text'), text);
}

function lock(why) {
	locked = true;
	setLive('warn', 'token needed');
	askToken(why);
}

/* --------------------------------------------------------------- dialogs */

const FOCUSABLE = 'button:not(:disabled), input:not(:disabled), select, a[href]';

/* Native modal dialogs leave the page inert, and close on Escape; Tab stays
 * inside here even where a browser would go on to its own bars. */
function openDialog(content, onclose) {
	const dialog = h('dialog', {'aria-labelledby': 'dialog-title'}, content);

	dialog.addEventListener('keydown', (e) => {
		if(e.key !== 'Tab')
			return;
		const all = [...dialog.querySelectorAll(FOCUSABLE)];
		const last = all[all.length - 1];
		if(e.shiftKey && document.activeElement === all[0]) {
			e.preventDefault();
			last.focus();
		} else if(!e.shiftKey && document.activeElement === last) {
			e.preventDefault();
			all[0].focus();
		}
	});
	dialog.addEventListener('close', () => {
		dialog.remove();
		if(onclose)
			onclose();
	});
	document.body.append(dialog);
	dialog.showModal();
	return dialog;
}

/* A question with a button that acts. act(): a promise; while it is refused
 * the dialog stays, says why, and the button tries again. */
function confirmDialog(spec) {
	const wrong = h('p', {class: 'wrong', role: 'alert'});
	const sure = h('button', {type: 'submit', class: spec.danger
			? 'danger sure' : 'primary', disabled: Boolean(spec.allowed)},
	spec.button);
	const cancel = h('button', {type: 'button',
		onclick: () => dialog.close()}, 'Cancel');
	const form = h('form', {novalidate: true},
			h('h2', {id: 'dialog-title'}, spec.title), spec.content, wrong,
			h('div', {class: 'buttons'}, cancel, sure));

	form.addEventListener('input', () => {
		if(spec.allowed)
			sure.disabled = !spec.allowed();
	});
	form.addEventListener('submit', async (e) => {
		e.preventDefault();
		if(sure.disabled)
			return;
		sure.disabled = true;
		setText(wrong, '');
		try {
			await spec.act();
			dialog.close();
			if(spec.done)
				spec.done();
		} catch(error) {
			setText(wrong, whyText(error));
			sure.disabled = false;
			sure.focus();
		}
	});
	const dialog = openDialog(form);
	(spec.focus || cancel).focus();
}

function whyText(e) {
	if(e.readOnly)
		return 'This token may only read. Nothing was changed.';
	if(!(e instanceof Refused))
		return String(e.message || e);
	return e.detail ? e.title + ': ' + e.detail : e.title;
}

function toast(text) {
	const el = h('div', {class: 'toast'}, text);
	$('toasts').append(el);
	setTimeout(() => el.remove(), 4000);
}

let tokenDialog = null;

function askToken(why) {
	if(tokenDialog !== null)
		return;
	const input = h('input', {id: 'token', type: 'password', maxlength: 255,
		autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false',
		'aria-describedby': 'token-wrong'});
	const wrong = h('p', {class: 'wrong', id: 'token-wrong', role: 'alert'}, why);
	const use = h('button', {type: 'submit', class: 'primary'}, 'Use token');
	const form = h('form', {novalidate: true},
			h('h2', {id: 'dialog-title'}, 'Token'),
			h('p', {class: 'muted'}, 'One of the file admin_token_file. It is '
				+ 'kept until this tab is closed.'),
			h('div', {class: 'field'},
				h('label', {for: 'token'}, 'Bearer token'), input),
			wrong,
			h('div', {class: 'buttons'},
				token.get() !== null && h('button', {type: 'button',
					onclick: () => {
						token.forget();
						tokenDialog.close();
						begin();
					}}, 'Forget token'),
				h('button', {type: 'button',
					onclick: () => tokenDialog.close()}, 'Cancel'),
				use));

	form.addEventListener('submit', async (e) => {
		const given = input.value.trim();
		e.preventDefault();
		if(!/^[\x21-\x7e]+$/.test(given)) {
			setText(wrong, given === '' ? 'Type or paste a token.'
					: 'A token has no spaces and only ASCII characters.');
			return;
		}
		use.disabled = true;
		setText(wrong, '');
		try {
			await call('HEAD', '/', {token: given});
		} catch(error) {
			setText(wrong, error.status === 401
				? 'The server does not accept this token.' : whyText(error));
			use.disabled = false;
			input.select();
			input.focus();
			return;
		}
		token.set(given);
		locked = false;
		tokenDialog.close();
		begin();
	});
	tokenDialog = openDialog(form, () => { tokenDialog = null; });
	input.focus();
}

/* ---------------------------------------------------------------- actions */

const quote = (...what) => h('div', {class: 'quote'}, what);

function aboutMessage(user, m) {
	return quote(h('div', {}, said(m.subject, '(no subject)')),
			h('div', {class: 'muted'}, 'from ', said(m.from), ' to ', said(user)),
			h('div', {class: 'muted mono'}, said(m.id)));
}

function requeue(user, m, done) {
	confirmDialog({
		title: 'Requeue this message?',
		content: [h('p', {}, 'It becomes queued again and is delivered as soon '
			+ 'as its user can be reached.'), aboutMessage(user, m)],
		button: 'Requeue',
		act: () => call('POST', messagePath(user, m.id) + '/requeue'),
		done: () => { toast('The message is queued again.'); done(); },
	});
}

function discard(user, m, done) {
	confirmDialog({
		title: 'Discard this message?',
		content: [h('p', {}, 'It is removed and never delivered. '
			+ 'This cannot be undone.'), aboutMessage(user, m)],
		button: 'Discard', danger: true,
		act: () => call('DELETE', messagePath(user, m.id)),
		done: () => { toast('The message was discarded.'); done(); },
	});
}

const jobPath = (j) => '/v1/jobs/' + [j.kind, j.user, j.id].map(part).join('/');

function aboutJob(j) {
	return quote(h('div', {}, kindOf(j)), h('div', {class: 'muted'}, 'of ',
			said(j.user)), j.id !== '-' && h('div', {class: 'muted mono'},
			said(j.id)));
}

function jobRequeue(j, done) {
	confirmDialog({
		title: 'Try this job again?',
		content: [h('p', {}, 'It becomes due now.'), aboutJob(j)],
		button: 'Try again',
		act: () => call('POST', jobPath(j) + '/requeue'),
		done: () => { toast('The job is due now.'); done(); },
	});
}

function jobDrop(j, done) {
	confirmDialog({
		title: 'Drop this job?',
		content: [h('p', {}, 'It is removed and never done. A message that it '
			+ 'holds is lost. This cannot be undone.'), aboutJob(j)],
		button: 'Drop', danger: true,
		act: () => call('DELETE', jobPath(j)),
		done: () => { toast('The job was dropped.'); done(); },
	});
}

function flush(user, done) {
	const choice = (value, label, about, checked) =>
		h('label', {class: 'choice'},
				h('input', {type: 'radio', name: 'mode', value, checked}),
				h('span', {}, label), h('span', {}, about));
	const fieldset = h('fieldset', {},
			h('legend', {}, 'How'),
			choice('push', 'Push', 'bring the messages to the registered '
				+ 'clients now', true),
			choice('notify', 'Notify', 'tell the registered clients what is '
				+ 'queued, and leave it to them', false));
	confirmDialog({
		title: 'Flush this queue?',
		content: [quote(said(user)), fieldset],
		button: 'Flush',
		act: () => call('POST', queuePath(user) + '/flush', {
			body: {mode: fieldset.querySelector(':checked').value}}),
		done: () => { toast('The flush has been asked for.'); done(); },
	});
}

async function purge(user, done) {
	let messages, removed = null;
	try {
		messages = (await call('GET', queuePath(user))).messages;
	} catch(e) {
		toast(e.status === 404 ? 'Nothing is queued any more.' : whyText(e));
		return;
	}
	const input = h('input', {id: 'purge', type: 'text', autocomplete: 'off',
		autocapitalize: 'none', spellcheck: 'false'});
	confirmDialog({
		title: 'Purge this queue?',
		content: [
			h('p', {}, 'All messages of this user, ', h('strong', {},
					count(messages)), ', are removed and never delivered. This '
				+ 'cannot be undone.'), quote(said(user)),
			h('div', {class: 'field'},
				h('label', {for: 'purge'}, 'Type ', h('strong', {},
						String(messages)), ' or the address to confirm'),
				input)],
		button: 'Purge', danger: true, focus: input,
		allowed: () => {
			const typed = input.value.trim();
			return typed === user || typed.replace(/[,. ]/g, '')
				=== String(messages) && /^[\d,. ]+$/.test(typed);
		},
		act: async () => {
			removed = await call('DELETE', queuePath(user) + '/messages');
		},
		done: () => {
			toast(plural(removed ? removed.removed : messages, 'message was',
					'messages were') + ' removed.');
			done();
		},
	});
}

/* ------------------------------------------------------------------ lists */

const pill = (state, n) => h('span', {class: 'pill ' + (/^[a-z]+$/.test(state)
	? state : '')}, (n === undefined ? '' : count(n) + ' ') + state);

/* columns: {label, class}. Roles, as a phone's style takes the table out of
 * its table layout, and the meaning with it. */
function makeTable(caption, columns, kind = 'cards') {
	const body = h('tbody', {role: 'rowgroup'});
	const el = h('table', {class: 'table ' + kind, role: 'table', 'aria-label': caption},
			h('thead', {role: 'rowgroup'}, h('tr', {role: 'row'}, columns.map(
					(c) => h('th', {role: 'columnheader', scope: 'col',
						class: (c.class || '').replace('mono', '')},
					c.hide ? h('span', {class: 'hidden'}, c.label) : c.label)))),
			body);
	const rows = new Map();      /* key -> {el, text} */

	/* Only rows whose item changed are made anew, so that focus, selection
	 * and the place on the screen survive a poll. */
	function update(items, key, cells) {
		const seen = new Set();
		let at = body.firstElementChild;
		for(const item of items) {
			let name = key(item);
			while(seen.has(name))
				name += '\n';
			seen.add(name);
			const text = JSON.stringify(item);
			let row = rows.get(name);
			if(!row) {
				row = {el: h('tr', {role: 'row'}), text: null};
				rows.set(name, row);
			}
			if(row.text !== text) {
				const focused = [...row.el.querySelectorAll(FOCUSABLE)].indexOf(
						document.activeElement);
				row.el.replaceChildren(...cells(item).map((content, i) =>
					h('td', {role: 'cell', 'data-label': columns[i].label,
						class: (columns[i].class || '').replace(/w-\S+/g, '')
							+ (content === null ? ' void' : '')}, content)));
				row.text = text;
				if(focused >= 0) {
					const all = row.el.querySelectorAll(FOCUSABLE);
					if(all.length > 0)
						all[Math.min(focused, all.length - 1)].focus();
				}
			}
			if(at === row.el)
				at = at.nextElementSibling;
			else
				body.insertBefore(row.el, at);
		}
		for(const [name, row] of rows) {
			if(!seen.has(name)) {
				row.el.remove();
				rows.delete(name);
			}
		}
	}
	return {el, update};
}

/* Where the pages of a list begin, for "previous". */
const trails = new Map();

/* A list by pages. spec: view, params, path(cursor), caption, columns, key,
 * cells, empty(more): [title, text]; after(page) */
function makeList(spec) {
	const {params, view} = spec;
	const plain = Object.fromEntries([...params].filter(
			([k]) => k !== 'cursor' && k !== 'p'));
	const name = view + query(plain);
	const page = Math.max(1, Number(params.get('p')) || 1);
	const cursor = params.get('cursor') || '';
	const table = makeTable(spec.caption, spec.columns);
	const shown = h('span', {});
	const pages = h('div', {class: 'pages'});
	const empty = h('div', {class: 'empty', hidden: true});
	const below = h('div', {class: 'below', hidden: true}, shown, pages);
	const loading = h('p', {class: 'loading'}, 'Loading …');
	const panel = h('div', {class: 'panel'}, loading, table.el, empty, below);
	let links = '';

	table.el.hidden = true;
	if(!trails.has(name))
		trails.set(name, new Map());
	trails.get(name).set(page, cursor);

	function link(label, p, c) {
		return h('a', {class: 'button', href: '#/' + view + query(
				{...plain, cursor: c, p: p > 1 ? p : ''})}, label);
	}

	async function refresh(signal) {
		const got = await call('GET', spec.path(cursor), {signal});
		const items = got.items;
		table.update(items, spec.key, spec.cells);
		loading.hidden = true;
		table.el.hidden = items.length === 0;
		empty.hidden = items.length > 0;
		if(items.length === 0) {
			const [title, text] = spec.empty(Boolean(got.next));
			empty.replaceChildren(h('strong', {}, title), text);
		}
		const before = trails.get(name).get(page - 1);
		const want = [page, before, got.next].join(' ');
		setText(shown, (page > 1 || got.next ? 'Page ' + count(page) + ' · ' : '')
			+ plural(items.length, spec.one, spec.many)
			+ (got.next || page > 1 ? ' on this page' : ''));
		below.hidden = items.length === 0 && !got.next && page === 1;
		if(want !== links) {
			const active = pages.contains(document.activeElement);
			links = want;
			pages.replaceChildren(...[
				page > 1 && link('First', 1, ''),
				page > 1 && before !== undefined && link('Previous', page - 1,
						before),
				got.next && link('Next', page + 1, got.next),
			].filter(Boolean));
			if(active && pages.lastElementChild)
				pages.lastElementChild.focus();
		}
		if(spec.after)
			spec.after(got);
	}
	return {el: panel, refresh};
}

const userLink = (user) => h('a', {href: '#/queue' + query({user})}, said(user));

function messageLink(user, m) {
	return [h('a', {class: 'clamp', href: '#/message' + query({user, id: m.id})},
			said(m.subject, '(no subject)')),
	h('div', {class: 'muted clamp'}, 'from ', said(m.from))];
}

const error = (text) => text ? h('span', {class: 'clamp', title: visible(text)},
		said(text)) : null;

function rowActions(user, m, done) {
	return h('div', {class: 'pills', 'data-write': true},
			(m.state === 'dead' || m.state === 'held') && h('button', {
				type: 'button', class: 'small', 'data-do': 'requeue',
				'aria-label': 'Requeue message ' + visible(m.id),
				onclick: () => requeue(user, m, done)}, 'Requeue'),
			h('button', {type: 'button', class: 'small danger',
				'data-do': 'discard',
				'aria-label': 'Discard message ' + visible(m.id),
				onclick: () => discard(user, m, done)}, 'Discard'));
}

/* ------------------------------------------------------------------ views
 * Each: (params) -> {title, nav, el, refresh(signal, first)} */

function head(title, sub, actions, crumbs) {
	return h('div', {class: 'head'},
			h('div', {class: 'what'},
				crumbs && h('div', {class: 'crumbs'}, crumbs),
				h('h1', {tabindex: '-1'}, title),
				sub && h('div', {class: 'sub'}, sub)),
			actions && h('div', {class: 'actions', 'data-write': true}, actions));
}

function makeChart(curve) {
	const W = 240, H = 68;
	const line = svg('path', {class: 'curve'});
	const area = svg('path', {class: 'area'});
	const mark = svg('path', {class: 'axis'});
	const pic = svg('svg', {viewBox: '0 0 ' + W + ' ' + H, role: 'img',
		preserveAspectRatio: 'none', class: 'c-' + curve.name},
	svg('path', {class: 'axis', d: 'M0 ' + (H - .5) + 'H' + W}),
	area, line, mark);
	const rate = h('span', {}, '–');
	const left = h('span', {}, 'last 5 min');
	const right = h('span', {});
	const el = h('figure', {class: 'panel chart', 'data-chart': curve.name},
			h('div', {class: 'row'}, h('h2', {}, curve.label),
				h('div', {class: 'rate'}, rate,
					h('span', {class: 'unit'}, '/s'))),
			pic, h('div', {class: 'foot'}, left, right));
	let points = [];

	pic.addEventListener('pointermove', (e) => {
		const box = pic.getBoundingClientRect();
		const x = (e.clientX - box.left) / box.width * W;
		const near = points.reduce((best, p) => best === null
			|| Math.abs(p.x - x) < Math.abs(best.x - x) ? p : best, null);
		if(near === null)
			return;
		mark.setAttribute('d', 'M' + near.x.toFixed(1) + ' 0V' + H);
		setText(left, relative(near.at + skew) + ': ' + rateText(near.rate)
			+ '/s');
	});
	pic.addEventListener('pointerleave', () => {
		mark.removeAttribute('d');
		setText(left, 'last 5 min');
	});

	function update() {
		const all = rates(curve.name);
		const end = samples.length > 0 ? samples[samples.length - 1].at : 0;
		const peak = all.reduce((m, p) => Math.max(m, p.rate || 0), 0);
		const top = Math.max(peak, 1) * 1.08;
		let d = '', fillPath = '', from = null, to = null;
		points = [];
		for(const p of all) {
			const x = W * (1 - (end - p.at) / WINDOW_MS);
			if(p.rate === null || x < 0) {
				if(from !== null)
					fillPath += 'L' + to + ' ' + H + 'L' + from + ' ' + H + 'Z';
				from = null;
				continue;
			}
			const y = H - 1.5 - p.rate / top * (H - 4);
			const at = x.toFixed(1) + ' ' + y.toFixed(1);
			points.push({at: p.at, rate: p.rate, x});
			d += (from === null ? 'M' : 'L') + at;
			fillPath += (from === null ? 'M' : 'L') + at;
			if(from === null)
				from = x.toFixed(1);
			to = x.toFixed(1);
		}
		if(from !== null)
			fillPath += 'L' + to + ' ' + H + 'L' + from + ' ' + H + 'Z';
		line.setAttribute('d', d);
		area.setAttribute('d', fillPath);
		const last = all.length > 0 ? all[all.length - 1].rate : null;
		setText(rate, last === null ? '–' : rateText(last));
		setText(right, points.length > 0 ? 'peak ' + rateText(peak) + '/s'
			: metrics !== null && !metrics.has('queued') ? 'no counters'
				: 'collecting …');
		pic.setAttribute('aria-label', curve.label + ': ' + (last === null
			? 'no rate yet' : rateText(last) + ' a second now, '
			+ rateText(peak) + ' at most in the last 5 min'));
	}
	return {el, update};
}

function overview() {
	const tiles = {};
	const tile = (key, label, href) => {
		const value = h('span', {class: 'value'}, '–');
		tiles[key] = value;
		return h(href ? 'a' : 'div', {class: 'tile', href, 'data-tile': key},
				h('span', {class: 'name'}, label), value);
	};
	const put = (key, text, unit, state) => {
		const el = tiles[key];
		if(el.dataset.text === text + '|' + unit)
			return;
		el.dataset.text = text + '|' + unit;
		el.dataset.state = state || '';
		el.replaceChildren(text, unit ? h('span', {class: 'unit'}, unit) : '');
	};
	const charts = CURVES.map(makeChart);
	const health = h('ul', {class: 'warnings'},
			h('li', {}, h('span', {class: 'muted'}, 'Loading …')));
	const sums = makeTable('Counters since the start', [
		{label: 'Event'}, {label: 'Count', class: 'num w-m'}], 'plain');
	const all = makeTable('All counters', [
		{label: 'Name', class: 'lead mono w-xl'}, {label: 'Meaning'},
		{label: 'Value', class: 'num w-m'}]);
	const SUMS = [['received', 'Received'], ['queued', 'Queued'],
		['delivered_message', 'Delivered by MESSAGE'],
		['delivered_msrp', 'Delivered by MSRP'],
		['retrieved', 'Fetched by their users'], ['expired', 'Expired'],
		['dead', 'Given up'], ['delivery_failed', 'Failed attempts']];
	let polls = 0, ready = '';

	async function healthLoad(signal) {
		let items;
		try {
			const got = await call('GET', '/readyz', {signal});
			items = (got.warnings || []).map((w) => ({kind: 'warn',
				title: w.warning, where: w.server, text: w.detail}));
			if(items.length === 0)
				items.push({kind: 'good', title: 'Ready',
					text: 'Redis answers, and there is no warning.'});
		} catch(e) {
			if(e.status === 401 || signal.aborted)
				throw e;
			items = [{kind: 'bad', title: 'Not ready', text: whyText(e)}];
		}
		const late = metrics !== null && metrics.has('queue_overdue_users')
			? metrics.get('queue_overdue_users').value : 0;
		if(late > 0)
			items.unshift({kind: 'bad', title: 'Nobody delivers',
				text: plural(late, 'queue was', 'queues were') + ' due for a '
				+ 'minute and more. Is Kamailio running?'});
		if(JSON.stringify(items) === ready)
			return;
		ready = JSON.stringify(items);
		health.replaceChildren(...items.map((i) => h('li', {class: i.kind},
				h('span', {class: 'dot', 'aria-hidden': 'true'}),
				h('div', {}, h('strong', {}, said(i.title)),
					i.where && [' ', h('span', {class: 'muted mono'},
						said(i.where))],
					h('p', {class: 'muted'}, said(i.text))))));
	}

	function numbersShow() {
		const value = (n) => metrics.has(n) ? metrics.get(n).value : null;
		const plainTile = (key, n, alarm) => {
			const v = value(n);
			put(key, v === null ? '–' : count(v), '', alarm && v > 0 ? alarm : '');
		};
		plainTile('messages', 'queue_messages');
		plainTile('users', 'queue_users');
		plainTile('dead', 'queue_dead', 'bad');
		const lost = value('jobs_given_up');
		put('jobs', value('jobs') === null ? '–' : count(value('jobs')),
				lost > 0 ? '· ' + count(lost) + ' given up' : '', lost > 0 ? 'bad' : '');
		const b = value('queue_bytes');
		put('bytes', ...(b === null ? ['–', ''] : bytesParts(b)));
		const age = value('queue_oldest_seconds'); /* 0: there is none */
		put('oldest', ...(age > 0 ? spanParts(age * 1000) : ['–', '']));
		const up = value('redis_up') === 1;
		put('redis', up ? 'up' : 'down', '', up ? 'ok' : 'bad');
		const restarts = value('worker_restarts'), workers = value('workers');
		if(workers !== null)
			put('workers', count(workers), restarts === null ? ''
				: plural(restarts, 'restart', 'restarts'), restarts > 0 ? 'warn'
				: '');
		else
			put('workers', restarts === null ? '–' : count(restarts),
					restarts === null ? '' : restarts === 1 ? 'restart'
						: 'restarts', restarts > 0 ? 'warn' : '');
		charts.forEach((c) => c.update());
		sums.update(SUMS.filter(([n]) => metrics.has(n)).map(([n, label]) =>
			({n, label, value: value(n)})), (x) => x.n,
		(x) => [x.label, count(x.value)]);
		none.hidden = metrics.has('queued');
		sums.el.hidden = !metrics.has('queued');
		all.update([...metrics].map(([n, m]) => ({n, help: m.help,
			value: m.value})), (x) => x.n,
		(x) => ['cpm_pf_' + x.n, x.help, Number.isInteger(x.value)
			? count(x.value) : x.value.toPrecision(6)]);
	}

	const none = h('p', {class: 'pad muted', hidden: true}, 'This endpoint runs '
		+ 'without Kamailio: there is nothing that counts.');
	return {
		title: 'Overview', nav: 'overview',
		el: [
			h('h1', {class: 'hidden', tabindex: '-1'}, 'Overview'),
			h('div', {class: 'panel tiles'},
				tile('messages', 'Messages', '#/queues'),
				tile('users', 'Users', '#/queues'),
				tile('bytes', 'Size in all'), tile('oldest', 'Oldest waits'),
				tile('dead', 'Dead letters', '#/dead'),
				tile('jobs', 'Jobs', '#/jobs'), tile('redis', 'Redis'),
				tile('workers', 'Workers')),
			h('div', {class: 'charts'}, charts.map((c) => c.el)),
			h('div', {class: 'columns'},
				h('section', {class: 'panel'}, h('h2', {}, 'Health'), health),
				h('section', {class: 'panel'}, h('h2', {}, 'Since the start'),
					none, sums.el)),
			h('details', {class: 'panel'},
				h('summary', {}, 'All counters'), all.el),
		],
		metrics: numbersShow,
		refresh: async (signal) => {
			if(metrics !== null)
				numbersShow();
			if(polls++ % 6 === 0 || /"bad"/.test(ready))
				await healthLoad(signal);
		},
	};
}

const AGES = [['', 'Any age'], ['3600', 'Over 1 h'], ['86400', 'Over 1 day'],
	['604800', 'Over 7 days']];

function tabs(label, view, params, name, values) {
	const here = params.get(name) || '';
	return h('div', {class: 'tabs', role: 'group', 'aria-label': label},
			values.map(([value, text]) => {
				const rest = Object.fromEntries(params);
				delete rest.cursor;
				delete rest.p;
				return h('a', {class: 'tab', 'data-tab': value || 'all',
					href: '#/' + view + query({...rest, [name]: value}),
					'aria-current': value === here ? 'true' : null}, text);
			}));
}

function queues(params) {
	const prefix = params.get('prefix') || '';
	const older = params.get('older') || '';
	const list = makeList({
		view: 'queues', params, caption: 'Queues', one: 'queue', many: 'queues',
		path: (cursor) => '/v1/queues' + query({limit: PAGE, cursor, prefix,
			older_than: older}),
		columns: [{label: 'User', class: 'lead'},
			{label: 'Messages', class: 'num w-m'}, {label: 'States',
				class: 'w-xl'}, {label: 'Size', class: 'num w-m'},
			{label: 'Oldest', class: 'w-m'}, {label: 'Newest', class: 'w-m'}],
		key: (q) => q.user,
		cells: (q) => [userLink(q.user), count(q.messages),
			h('div', {class: 'pills'}, Object.entries(q.state_counts).filter(
					([, n]) => n > 0).map(([s, n]) => pill(s, n))),
			size(q.bytes), when(q.oldest), when(q.newest)],
		empty: (more) => more
			? ['None so far', 'There are more queues to look through.']
			: prefix || older
				? ['No queue matches', 'Queues that are empty are not kept.']
				: ['Nothing is queued', 'All messages have been delivered.'],
	});
	return {
		title: 'Queues', nav: 'queues', search: prefix,
		el: [head('Queues', prefix ? ['Users that begin with ', said(prefix),
			' · ', h('a', {href: '#/queues' + query({older})}, 'show all')]
			: 'Users with queued messages'),
		tabs('Age of the oldest message', 'queues', params, 'older', AGES),
		list.el],
		refresh: list.refresh,
	};
}

function queue(params) {
	const user = params.get('user') || '';
	const sub = h('span', {}, 'Loading …');
	const redo = () => refreshNow();
	const states = ['queued', 'leased', 'held', 'dead'];
	const bar = tabs('State', 'queue', params, 'state', [['', 'All'],
		...states.map((s) => [s, s[0].toUpperCase() + s.slice(1)])]);
	const counts = {};
	for(const tab of bar.children) {
		counts[tab.dataset.tab] = h('span', {});
		tab.append(counts[tab.dataset.tab]);
	}
	const state = params.get('state') || '';
	const list = makeList({
		view: 'queue', params, caption: 'Messages', one: 'message',
		many: 'messages',
		path: (cursor) => queuePath(user) + '/messages' + query(
				{limit: PAGE, cursor, state}),
		columns: [{label: 'Message', class: 'lead'},
			{label: 'State', class: 'w-s'}, {label: 'Received', class: 'w-m'},
			{label: 'Attempts', class: 'num w-s'},
			{label: 'Next try', class: 'w-m minor'},
			{label: 'Last error', class: 'w-l'},
			{label: 'Size', class: 'num w-xs minor'},
			{label: 'Actions', class: 'w-a', hide: true}],
		key: (m) => m.id,
		cells: (m) => [messageLink(user, m), pill(m.state), when(m.received),
			count(m.attempts), m.next_attempt ? when(m.next_attempt) : null,
			error(m.last_error), size(m.size), rowActions(user, m, redo)],
		empty: () => [state ? 'No message is ' + state : 'Nothing is queued',
			state ? 'The others have another state.'
				: 'This user has no queued messages, or is not known.'],
	});
	const buttons = [
		h('button', {type: 'button', 'data-do': 'flush',
			onclick: () => flush(user, redo)}, 'Flush …'),
		h('button', {type: 'button', class: 'danger', 'data-do': 'purge',
			onclick: () => purge(user, redo)}, 'Purge …')];

	function summary(q) {
		for(const b of buttons)
			b.disabled = q === null;
		for(const [s, el] of Object.entries(counts))
			setText(el, q === null ? '0' : count(s === 'all' ? q.messages
				: q.state_counts[s] || 0));
		if(q === null)
			sub.replaceChildren('Nothing is queued');
		else
			sub.replaceChildren(plural(q.messages, 'message', 'messages'), ' · ',
					size(q.bytes), ' · oldest ', when(q.oldest),
					' · newest ', when(q.newest));
	}

	return {
		title: visible(user), nav: 'queues',
		el: [head(said(user), sub, buttons,
			[h('a', {href: '#/queues'}, 'Queues'), ' / user']), bar, list.el],
		refresh: async (signal) => {
			let q = null;
			try {
				q = await call('GET', queuePath(user), {signal});
			} catch(e) {
				if(e.status !== 404)
					throw e;
			}
			await list.refresh(signal);
			summary(q);
		},
	};
}

function story(m) {
	const step = (kind, what, ...more) => h('li', {class: kind},
			h('div', {class: 'what'}, what), more.map((x) => h('p', {}, x)));
	const at = (iso) => [when(iso), ' · ', exact(iso)];
	const steps = [step('done', 'Received', at(m.received))];

	if(m.attempts > 0)
		steps.push(step(m.last_error ? 'bad' : 'done',
				plural(m.attempts, 'attempt', 'attempts'),
				m.last_error && h('span', {class: 'error'}, 'last error: ',
						said(m.last_error))));
	else
		steps.push(step('', 'No attempt yet', m.last_error && h('span',
				{class: 'error'}, said(m.last_error))));
	if(m.state === 'dead')
		steps.push(step('bad', 'Given up', 'It stays here until it is requeued, '
			+ 'discarded or expires.'));
	else if(m.state === 'held')
		steps.push(step('done', 'Held', 'Its user keeps it back; it is not '
			+ 'delivered until then.'));
	else if(m.state === 'leased')
		steps.push(step('done', 'On its way', 'Somebody delivers it now.'));
	else if(m.next_attempt)
		steps.push(step('', 'Next try', at(m.next_attempt)));
	else
		steps.push(step('', 'Waits', 'It is delivered when its user can be '
			+ 'reached.'));
	steps.push(m.expires ? step('', 'Expires', at(m.expires))
		: step('', 'Never expires'));
	return steps;
}

function hexDump(bytes) {
	const lines = [];
	for(let i = 0; i < bytes.length; i += 16) {
		const row = [...bytes.subarray(i, i + 16)];
		lines.push(i.toString(16).padStart(6, '0') + '  '
			+ row.map((b) => b.toString(16).padStart(2, '0')).join(' ').padEnd(48)
			+ ' ' + row.map((b) => b > 31 && b < 127
			? String.fromCharCode(b) : '.').join(''));
	}
	return lines.join('\n');
}

function bodyPanel(user, id) {
	const pre = h('pre', {class: 'body', tabindex: '0', hidden: true,
		'aria-label': 'Body'});
	const note = h('p', {class: 'pad muted'}, 'Not loaded. Who looks at it reads '
		+ 'what users wrote to each other.');
	const load = h('button', {type: 'button', class: 'small',
		'data-do': 'body', onclick: get}, 'Show body');
	const turn = h('button', {type: 'button', class: 'small', hidden: true,
		'data-do': 'hex', onclick: () => { hex = !hex; put(); }}, 'Hex');
	let bytes = null, text = null, hex = false;

	function put() {
		pre.hidden = false;
		pre.classList.toggle('hex', hex);
		setText(turn, hex ? 'Text' : 'Hex');
		turn.hidden = text === null || bytes.length === 0;
		pre.textContent = bytes.length === 0 ? '(empty)'
			: hex ? hexDump(bytes.subarray(0, BODY_SHOWN))
				: visible(text.slice(0, BODY_SHOWN), ODD_IN_BODY);
		note.hidden = bytes.length <= BODY_SHOWN;
		setText(note, 'The first ' + count(BODY_SHOWN) + ' of '
			+ count(bytes.length) + ' bytes are shown.');
	}

	async function get() {
		load.disabled = true;
		try {
			const m = await call('GET', messagePath(user, id) + '?include=body');
			const raw = atob(m.body || '');
			bytes = Uint8Array.from(raw, (c) => c.charCodeAt(0));
			try {
				text = new TextDecoder('utf-8', {fatal: true,
					ignoreBOM: true}).decode(bytes);
			} catch(e) {
				text = null;
			}
			hex = text === null;
			load.hidden = true;
			put();
		} catch(e) {
			note.hidden = false;
			setText(note, e.status === 403
				? 'Bodies are not shown by this server (admin_bodies is 0).'
				: whyText(e));
			load.hidden = e.status === 403;
			setText(load, 'Try again');
		}
		load.disabled = false;
	}
	return h('section', {class: 'panel wide'}, h('div', {class: 'panel-head'},
			h('h2', {}, 'Body'), turn, load), note, pre);
}

function message(params) {
	const user = params.get('user') || '', id = params.get('id') || '';
	const title = h('span', {}, 'Message');
	const state = h('span', {}, 'Loading …');
	const steps = h('ol', {class: 'story'});
	const facts = h('dl', {class: 'facts'});
	const gone = h('div', {class: 'panel empty', hidden: true},
			h('strong', {}, 'This message is not queued'),
			'It was delivered, discarded, or has expired.');
	const grid = h('div', {class: 'message', hidden: true},
			h('section', {class: 'panel'}, h('h2', {}, 'Story'), steps),
			h('section', {class: 'panel'}, h('h2', {}, 'Message'), facts),
			bodyPanel(user, id));
	const redo = () => refreshNow();
	const away = () => { location.hash = '#/queue' + query({user}); };
	const again = h('button', {type: 'button', 'data-do': 'requeue',
		hidden: true, onclick: () => requeue(user, last, redo)}, 'Requeue …');
	const drop = h('button', {type: 'button', class: 'danger', hidden: true,
		'data-do': 'discard', onclick: () => discard(user, last, away)},
	'Discard …');
	let last = null, text = '';

	function put(m) {
		last = m;
		grid.hidden = false;
		gone.hidden = true;
		drop.hidden = false;
		again.hidden = m.state !== 'dead' && m.state !== 'held';
		if(JSON.stringify(m) === text)
			return;
		text = JSON.stringify(m);
		title.replaceChildren(said(m.subject, '(no subject)'));
		state.replaceChildren(pill(m.state));
		steps.replaceChildren(...story(m));
		facts.replaceChildren(...[['From', said(m.from)], ['To', said(m.to)],
			['Subject', said(m.subject)], ['Content type', said(m.content_type)],
			['Size', plural(m.size, 'byte', 'bytes')],
			['Id', h('span', {class: 'mono'}, said(m.id))],
			['Conversation', h('span', {class: 'mono'},
					said(m.conversation_id))],
			['Contribution', h('span', {class: 'mono'},
					said(m.contribution_id))]].flatMap(
				([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
	}

	return {
		title: 'Message', nav: 'queues',
		el: [head(title, state, [again, drop],
			[h('a', {href: '#/queues'}, 'Queues'), ' / ', userLink(user),
				' / message']), gone, grid],
		refresh: async (signal) => {
			try {
				put(await call('GET', messagePath(user, id), {signal}));
			} catch(e) {
				if(e.status !== 404)
					throw e;
				grid.hidden = true;
				gone.hidden = false;
				again.hidden = drop.hidden = true;
				state.replaceChildren('gone');
			}
		},
	};
}

function dead(params) {
	const redo = () => refreshNow();
	const list = makeList({
		view: 'dead', params, caption: 'Dead letters', one: 'dead letter',
		many: 'dead letters',
		path: (cursor) => '/v1/dead' + query({limit: PAGE, cursor}),
		columns: [{label: 'Message', class: 'lead'}, {label: 'User',
			class: 'w-xl'}, {label: 'Received', class: 'w-m minor'},
		{label: 'Attempts', class: 'num w-s minor'}, {label: 'Last error',
			class: 'w-l'}, {label: 'Actions', class: 'w-a', hide: true}],
		key: (m) => m.user + '\n' + m.id,
		cells: (m) => [messageLink(m.user, m), userLink(m.user),
			when(m.received), count(m.attempts), error(m.last_error),
			rowActions(m.user, m, redo)],
		empty: () => ['No dead letters', 'No message has been given up.'],
	});
	return {
		title: 'Dead letters', nav: 'dead',
		el: [head('Dead letters', 'Messages that were given up, of all users'),
			list.el],
		refresh: list.refresh,
	};
}

const KINDS = {store: 'Message store', interwork: 'Interworking',
	stored: 'Tell the sender: stored', failed: 'Tell the sender: failed',
	push: 'Push'};

const kindOf = (j) => Object.hasOwn(KINDS, j.kind) ? KINDS[j.kind]
	: said(j.kind);

function jobs(params) {
	const redo = () => refreshNow();
	const list = makeList({
		view: 'jobs', params, caption: 'Jobs', one: 'job', many: 'jobs',
		path: (cursor) => '/v1/jobs' + query({limit: PAGE, cursor}),
		columns: [{label: 'Job', class: 'lead w-j'}, {label: 'User'},
			{label: 'State', class: 'w-s'}, {label: 'Due', class: 'w-m minor'},
			{label: 'Attempts', class: 'num w-s'},
			{label: 'Last error', class: 'w-l'},
			{label: 'Message id', class: 'mono w-j minor'},
			{label: 'Actions', class: 'w-a', hide: true}],
		key: (j) => [j.kind, j.user, j.id].join('\n'),
		cells: (j) => [h('span', {}, kindOf(j)), userLink(j.user),
		j.state ? pill(j.state) : null, j.due ? when(j.due) : null,
		count(j.attempts), error(j.last_error),
		j.id && j.id !== '-' ? h('span', {class: 'clamp', title: visible(j.id)},
				said(j.id)) : null,
		h('div', {class: 'pills', 'data-write': true},
				h('button', {type: 'button', class: 'small',
					'data-do': 'again', onclick: () => jobRequeue(j, redo)},
				'Try again'),
				h('button', {type: 'button', class: 'small danger',
					'data-do': 'drop', onclick: () => jobDrop(j, redo)},
				'Drop'))],
		empty: () => ['No jobs', 'Nothing waits to be done elsewhere.'],
	});
	return {
		title: 'Jobs', nav: 'jobs',
		el: [head('Jobs', 'What waits to be done elsewhere: stored, '
			+ 'interworked, pushed, told to senders'), list.el],
		refresh: list.refresh,
	};
}

function nowhere() {
	return {
		title: 'Not found', nav: '',
		el: [head('Not found'), h('div', {class: 'panel empty'},
				h('strong', {}, 'There is nothing at this address'),
				h('a', {href: '#/'}, 'Go to the overview'))],
		refresh: async () => {},
	};
}

const VIEWS = {'': overview, queues, queue, message, dead, jobs};

/* ---------------------------------------------------- the view, and polls */

let view = null;              /* what is shown */
let viewStop = null;          /* ends its requests */
let viewLoaded = false;
let timer = 0;
let round = 0;                /* of polls: an old one does not go on */

const problem = (() => {
	const text = h('p', {});
	const retry = h('button', {type: 'button', class: 'small',
		onclick: () => refreshNow()}, 'Retry');
	const el = h('div', {class: 'problem', role: 'alert'}, text, retry);

	return {
		/* In the view's place when it has nothing to show; else above its
		 * foot, so that what is shown stays where it is. */
		show(e) {
			const token_missing = e.status === 401;
			text.replaceChildren(h('strong', {}, token_missing
				? 'A token is needed' : e.title || 'Error'), ' ',
			token_missing ? '' : e.detail || e.message || '');
			setText(retry, token_missing ? 'Enter token' : 'Retry');
			el.classList.toggle('over', viewLoaded);
			$('main').classList.toggle('failed', !viewLoaded);
			if(!el.isConnected)
				$('main').append(el);
		},
		hide() {
			$('main').classList.remove('failed');
			el.remove();
		},
	};
})();

async function metricsLoad() {
	try {
		metrics = parseMetrics(await call('GET', '/metrics', {text: true}));
		sampleTake();
		const up = metrics.has('redis_up') && metrics.get('redis_up').value === 1;
		setLive(up ? 'ok' : 'bad', up ? 'live' : 'Redis down');
		if(view !== null && view.metrics)
			view.metrics();
	} catch(e) {
		if(e.status === 401)
			return;
		setLive('bad', e.status === 0 ? 'no answer' : 'error ' + e.status);
	}
}

async function viewLoad() {
	const mine = view, stop = viewStop;
	try {
		await mine.refresh(stop.signal);
		if(mine !== view)
			return;
		viewLoaded = true;
		problem.hide();
	} catch(e) {
		if(mine !== view || stop.signal.aborted)
			return;
		problem.show(e);
	}
}

async function refreshNow() {
	if(locked) {
		askToken('');
		return;
	}
	await poll();
}

async function poll() {
	const mine = ++round;
	clearTimeout(timer);
	if(locked || document.hidden)
		return;
	await Promise.all([metricsLoad(), viewLoad()]);
	tick();
	if(mine === round)
		timer = setTimeout(poll, POLL_MS);
}

function show() {
	const [path, words] = location.hash.replace(/^#\/?/, '').split('?', 2);
	const make = Object.hasOwn(VIEWS, path) ? VIEWS[path] : nowhere;
	const main = $('main');

	if(viewStop !== null)
		viewStop.abort();
	viewStop = new AbortController();
	viewLoaded = false;
	main.classList.remove('failed');
	view = make(new URLSearchParams(words || ''));
	main.replaceChildren(...view.el);
	document.title = view.title + ' · cpm_pf';
	for(const a of document.querySelectorAll('nav a')) {
		if(a.dataset.nav === view.nav)
			a.setAttribute('aria-current', 'page');
		else
			a.removeAttribute('aria-current');
	}
	if(document.activeElement !== $('q'))
		$('q').value = view.search || '';
}

/* ----------------------------------------------------------------- search */

/* An address as it is typed, in the spelling of the API. */
function address(typed, whole) {
	let a = typed.trim().replace(/^<|>$/g, '');
	if(a === '')
		return '';
	if(/^(sip|tel):/i.test(a))
		a = a.slice(0, 4).toLowerCase() + a.slice(4);
	else if(/^\+[\d\s().-]+$/.test(a))
		a = 'tel:' + a.replace(/[\s().-]/g, '');
	else if(!/^[a-z]+:/i.test(a))
		a = 'sip:' + a;
	const at = a.lastIndexOf('@');
	if(whole && at >= 0)
		a = a.slice(0, at) + a.slice(at).toLowerCase();
	return a;
}

function search(e) {
	const typed = $('q').value, whole = $('how').value === 'exact';
	e.preventDefault();
	const a = address(typed, whole);
	location.hash = whole && a !== '' ? '#/queue' + query({user: a})
		: '#/queues' + query({prefix: a});
}

function start() {
	sampleLoad();
	$('live').before(h('span', {class: 'pill held', id: 'right', hidden: true},
			'read only'));
	$('search').addEventListener('submit', search);
	$('token-button').addEventListener('click', () => askToken(''));
	$('skip').addEventListener('click', (e) => {
		e.preventDefault(); /* the hash is a view's */
		$('main').focus();
	});
	window.addEventListener('hashchange', () => {
		show();
		window.scrollTo(0, 0);
		const title = document.querySelector('main h1');
		if(title)
			title.focus({preventScroll: true});
		if(locked)
			problem.show(new Refused(401, '', ''));
		else
			poll();
	});
	document.addEventListener('keydown', (e) => {
		if(e.key === '/' && !e.ctrlKey && !e.metaKey && !e.altKey
				&& !e.target.closest('input, select, textarea, dialog')) {
			e.preventDefault();
			$('q').focus();
			$('q').select();
		}
	});
	document.addEventListener('visibilitychange', () => {
		if(!document.hidden)
			poll();
	});
	setInterval(tick, 1000);
	begin();
}

/* Anew, with another token or none. */
async function begin() {
	setLive('wait', 'connecting');
	show();
	try {
		await call('HEAD', '/'); /* tells what this token may do */
	} catch(e) {
		if(e.status !== 401)
			setRight(''); /* poll() will say what is wrong */
	}
	if(locked)
		problem.show(new Refused(401, '', ''));
	else
		poll();
}

start();

})();
