package index

import (
	"encoding/json"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
)

// applicationID marks the file as an index of ours ("GBix").
const applicationID = 0x47426978

// schemaVersion goes up with every change of the tables or of what is put
// into them; an index of another version is made again.
const schemaVersion = 3

// tables hold the data. Rows have the index of their first entry as key, so
// that they follow the book's order and do not depend on how entries were
// batched. Times are stored twice: as text of fixed width, which sorts, and in
// microseconds, to compute with.
const tables = `
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), origin TEXT NOT NULL, text INTEGER NOT NULL,
	next INTEGER NOT NULL, digest TEXT NOT NULL, last_us INTEGER NOT NULL, last_kind TEXT NOT NULL, heartbeat_s INTEGER NOT NULL);
CREATE TABLE session_row (first_entry INTEGER PRIMARY KEY, last_entry INTEGER NOT NULL, session TEXT NOT NULL UNIQUE,
	body TEXT NOT NULL, actor_id TEXT, target_id TEXT, began TEXT NOT NULL, began_us INTEGER NOT NULL,
	principal TEXT, issuer TEXT, subject TEXT, name TEXT, owner TEXT, groups TEXT, acting TEXT,
	target TEXT, protocol TEXT, database TEXT, role TEXT, rule TEXT, origin TEXT, purpose TEXT, listener TEXT, source TEXT,
	application TEXT, token_sha256 TEXT, token_id TEXT, token_expiry TEXT, may_run_until TEXT, lifetime_rule TEXT, config TEXT, boot TEXT,
	upstream_address TEXT, upstream_local TEXT, upstream_user TEXT,
	ended TEXT, ended_us INTEGER, end_cause TEXT, seconds INTEGER, recovered INTEGER,
	exchanges INTEGER NOT NULL DEFAULT 0, denied INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
	rows INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX session_principal ON session_row (principal, first_entry);
CREATE INDEX session_target ON session_row (target, first_entry);
CREATE INDEX session_actor ON session_row (actor_id);
CREATE INDEX session_began ON session_row (began);
CREATE TABLE exchange_row (first_entry INTEGER PRIMARY KEY, last_entry INTEGER NOT NULL, session INTEGER NOT NULL,
	exchange INTEGER NOT NULL, body TEXT NOT NULL, time TEXT NOT NULL, time_us INTEGER NOT NULL,
	decision TEXT, op TEXT, origin TEXT, rule TEXT, reason TEXT, code TEXT, effects TEXT, privileged TEXT,
	fingerprint TEXT, text_bytes INTEGER, parameters INTEGER, config TEXT,
	ended TEXT, ended_us INTEGER, status TEXT, tag TEXT, sqlstate TEXT, rows INTEGER, bytes INTEGER, answer_chunks INTEGER,
	request_chunks INTEGER, answer_sha256 TEXT, ready_us INTEGER, total_us INTEGER, cause TEXT);
CREATE UNIQUE INDEX exchange_number ON exchange_row (session, exchange);
CREATE INDEX exchange_time ON exchange_row (time);
CREATE INDEX exchange_code ON exchange_row (code) WHERE code IS NOT NULL;
CREATE INDEX exchange_sqlstate ON exchange_row (sqlstate) WHERE sqlstate IS NOT NULL;
CREATE TABLE statement (entry INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE VIRTUAL TABLE search USING fts5(text, content='statement', content_rowid='entry', tokenize='unicode61');
CREATE TABLE identity_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, session INTEGER NOT NULL, body TEXT NOT NULL,
	issuer TEXT, renewal INTEGER, token_sha256 TEXT, token_expiry TEXT, may_run_until TEXT, lifetime_rule TEXT);
CREATE INDEX identity_session ON identity_row (session);
CREATE TABLE principal_row (actor_id TEXT PRIMARY KEY, first_entry INTEGER NOT NULL, last_entry INTEGER NOT NULL,
	first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, body TEXT NOT NULL,
	principal TEXT, issuer TEXT, issuer_url TEXT, subject TEXT, name TEXT, owner TEXT, groups TEXT, acting TEXT) WITHOUT ROWID;
CREATE TABLE target_row (target_id TEXT PRIMARY KEY, first_entry INTEGER NOT NULL, last_entry INTEGER NOT NULL,
	first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, body TEXT NOT NULL,
	target TEXT, protocol TEXT, address TEXT, labels TEXT) WITHOUT ROWID;
CREATE TABLE refusal_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, body TEXT NOT NULL,
	count INTEGER, what TEXT, code TEXT, detail TEXT, source TEXT, listener TEXT, target TEXT, role TEXT, principal TEXT);
CREATE TABLE admin_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, body TEXT NOT NULL,
	action TEXT, who TEXT, how TEXT, pid INTEGER, uid INTEGER, detail TEXT);
CREATE TABLE continuity_row (entry INTEGER NOT NULL, event TEXT NOT NULL, time TEXT NOT NULL, time_us INTEGER NOT NULL, body TEXT NOT NULL,
	silence_us INTEGER, boot TEXT, version TEXT, sync TEXT, heartbeat_s INTEGER, cause TEXT, open_sessions INTEGER,
	open_exchanges INTEGER, exchanges INTEGER, refused INTEGER, free_bytes INTEGER, detail TEXT, PRIMARY KEY (entry, event)) WITHOUT ROWID;
CREATE TABLE config_row (entry INTEGER NOT NULL, file TEXT NOT NULL, time TEXT NOT NULL, time_us INTEGER NOT NULL, body TEXT NOT NULL,
	sha256 TEXT, cause TEXT, text TEXT, text_bytes INTEGER, PRIMARY KEY (entry, file)) WITHOUT ROWID;
CREATE TABLE note_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, session INTEGER NOT NULL, exchange INTEGER,
	body TEXT NOT NULL, what TEXT, detail TEXT);
CREATE INDEX note_session ON note_row (session);
CREATE TABLE cancel_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, session INTEGER NOT NULL, exchange INTEGER,
	body TEXT NOT NULL, cancelled_by TEXT, source TEXT, effect TEXT);
CREATE INDEX cancel_session ON cancel_row (session);
CREATE TABLE alert_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, session TEXT, exchange INTEGER,
	body TEXT NOT NULL, alert TEXT, what TEXT, ticket TEXT, person TEXT, principal TEXT, target TEXT, text TEXT);
CREATE TABLE ticket_row (entry INTEGER PRIMARY KEY, last_entry INTEGER NOT NULL, time TEXT NOT NULL, time_us INTEGER NOT NULL,
	session INTEGER NOT NULL, exchange INTEGER, body TEXT NOT NULL, ticket TEXT, digest TEXT, rules TEXT, requester TEXT, requires TEXT, expires TEXT,
	state TEXT, cause TEXT, approved_by TEXT, ended TEXT, ended_us INTEGER);
CREATE INDEX ticket_exchange ON ticket_row (session, exchange);
CREATE INDEX ticket_name ON ticket_row (ticket);
CREATE INDEX ticket_standing ON ticket_row (entry) WHERE state = 'standing';
CREATE TABLE ruling_row (entry INTEGER PRIMARY KEY, time TEXT NOT NULL, time_us INTEGER NOT NULL, session INTEGER NOT NULL, exchange INTEGER,
	body TEXT NOT NULL, ticket TEXT, person TEXT, identity TEXT, groups TEXT, verdict TEXT, reason TEXT, proof TEXT);
CREATE INDEX ruling_session ON ruling_row (session)`

// views are what docs/query.md describes.
const views = `
CREATE VIEW sessions AS SELECT session, principal, issuer, subject, name, owner, groups, acting, actor_id,
	target, target_id, protocol, database, role, rule, origin, purpose, listener, source, application,
	token_sha256, token_id, token_expiry, may_run_until, lifetime_rule, config, boot,
	upstream_address, upstream_local, upstream_user,
	began, began_us, ended, ended_us, seconds, end_cause, recovered,
	exchanges, denied, failed, rows, bytes, body, first_entry, last_entry
	FROM session_row;
CREATE VIEW exchanges AS SELECT s.session AS session, e.exchange AS exchange, s.principal AS principal, s.target AS target,
	s.protocol AS protocol, s.database AS database, s.role AS role, e.time AS time, e.time_us AS time_us,
	e.op AS op, e.origin AS origin, e.decision AS decision, e.rule AS rule, e.reason AS reason, e.code AS code,
	e.effects AS effects, e.privileged AS privileged, e.fingerprint AS fingerprint, t.text AS text, e.text_bytes AS text_bytes, e.parameters AS parameters, e.config AS config,
	e.ended AS ended, e.ended_us AS ended_us, e.status AS status, e.tag AS tag, e.sqlstate AS sqlstate, e.rows AS rows, e.bytes AS bytes,
	e.answer_chunks AS answer_chunks, e.request_chunks AS request_chunks, e.answer_sha256 AS answer_sha256,
	e.ready_us AS ready_us, e.total_us AS total_us, e.cause AS cause,
	e.body AS body, e.first_entry AS first_entry, e.last_entry AS last_entry
	FROM exchange_row e JOIN session_row s ON s.first_entry = e.session LEFT JOIN statement t ON t.entry = e.first_entry;
CREATE VIEW identities AS SELECT i.time AS time, i.time_us AS time_us, s.session AS session, s.principal AS principal, s.target AS target,
	i.issuer AS issuer, i.renewal AS renewal, i.token_sha256 AS token_sha256, i.token_expiry AS token_expiry,
	i.may_run_until AS may_run_until, i.lifetime_rule AS lifetime_rule, i.body AS body, i.entry AS first_entry, i.entry AS last_entry
	FROM identity_row i JOIN session_row s ON s.first_entry = i.session;
CREATE VIEW principals AS SELECT actor_id, principal, issuer, issuer_url, subject, name, owner, groups, acting, first_seen, last_seen,
	(SELECT count(*) FROM session_row s WHERE s.actor_id = p.actor_id) AS sessions, body, first_entry, last_entry
	FROM principal_row p;
CREATE VIEW targets AS SELECT target_id, target, protocol, address, labels, first_seen, last_seen, body, first_entry, last_entry
	FROM target_row;
CREATE VIEW refusals AS SELECT time, time_us, count, what, code, detail, source, listener, target, role, principal, body,
	entry AS first_entry, entry AS last_entry FROM refusal_row;
CREATE VIEW admin AS SELECT time, time_us, action, who, how, pid, uid, detail, body, entry AS first_entry, entry AS last_entry FROM admin_row;
CREATE VIEW continuity AS SELECT time, time_us, event, silence_us, boot, version, sync, heartbeat_s, cause, open_sessions, open_exchanges,
	exchanges, refused, free_bytes, detail, body, entry AS first_entry, entry AS last_entry FROM continuity_row;
CREATE VIEW configs AS SELECT time, time_us, sha256, cause, file, text, text_bytes, body, entry AS first_entry, entry AS last_entry FROM config_row;
CREATE VIEW notes AS SELECT n.time AS time, n.time_us AS time_us, s.session AS session, n.exchange AS exchange, s.principal AS principal,
	s.target AS target, n.what AS what, n.detail AS detail, n.body AS body, n.entry AS first_entry, n.entry AS last_entry
	FROM note_row n JOIN session_row s ON s.first_entry = n.session;
CREATE VIEW cancels AS SELECT c.time AS time, c.time_us AS time_us, s.session AS session, c.exchange AS exchange, s.principal AS principal,
	s.target AS target, c.cancelled_by AS cancelled_by, c.source AS source, c.effect AS effect, c.body AS body,
	c.entry AS first_entry, c.entry AS last_entry
	FROM cancel_row c JOIN session_row s ON s.first_entry = c.session;
CREATE VIEW alerts AS SELECT time, time_us, alert, what, ticket, session, exchange, person, principal, target, text, body,
	entry AS first_entry, entry AS last_entry FROM alert_row;
CREATE VIEW tickets AS SELECT k.time AS time, k.time_us AS time_us, k.ticket AS ticket, s.session AS session, k.exchange AS exchange,
	s.principal AS principal, s.target AS target, k.rules AS rules, k.requester AS requester, k.requires AS requires, k.state AS state, k.cause AS cause,
	k.approved_by AS approved_by, k.expires AS expires, k.ended AS ended, k.ended_us AS ended_us, k.digest AS digest, t.text AS text,
	k.body AS body, k.entry AS first_entry, k.last_entry AS last_entry
	FROM ticket_row k JOIN session_row s ON s.first_entry = k.session
	LEFT JOIN exchange_row e ON e.session = k.session AND e.exchange = k.exchange LEFT JOIN statement t ON t.entry = e.first_entry;
CREATE VIEW rulings AS SELECT r.time AS time, r.time_us AS time_us, r.ticket AS ticket, s.session AS session, r.exchange AS exchange,
	s.principal AS principal, s.target AS target, r.person AS person, r.identity AS identity, r.groups AS groups, r.verdict AS verdict, r.reason AS reason,
	r.proof AS proof, r.body AS body, r.entry AS first_entry, r.entry AS last_entry
	FROM ruling_row r JOIN session_row s ON s.first_entry = r.session`

var objectName = regexp.MustCompile(`^CREATE (?:UNIQUE |VIRTUAL )?(?:TABLE|VIEW|INDEX) (\w+)`)

// definitions returns the statements that make tables and views, without
// what follows them.
var definitions = sync.OnceValue(func() []string {
	var out []string
	for _, sql := range strings.Split(tables+";"+views, ";") {
		out = append(out, strings.TrimSpace(sql))
	}
	return out
})

// schema returns the statements that make an empty index, in order.
func schema() []string {
	return append(slices.Clone(definitions()),
		// Deleted statements must not stay behind in the search tables.
		"INSERT INTO search (search, rank) VALUES ('secure-delete', 1)",
		"PRAGMA application_id="+itoa(applicationID), "PRAGMA user_version="+itoa(schemaVersion))
}

// schemaNames returns the names of what schema makes, as a JSON array.
var schemaNames = sync.OnceValue(func() string {
	text, err := json.Marshal(objects())
	if err != nil {
		panic("a list of names has no JSON: " + err.Error())
	}
	return string(text)
})

func objects() []string {
	var names []string
	for _, sql := range definitions() {
		names = append(names, objectName.FindStringSubmatch(sql)[1])
	}
	sort.Strings(names)
	return names
}

// schemaFingerprint is what sqlite_schema must hold: SQLite keeps the text of definitions as it was given.
var schemaFingerprint = sync.OnceValue(func() string {
	sorted := slices.Clone(definitions())
	sort.Slice(sorted, func(i, j int) bool {
		return objectName.FindStringSubmatch(sorted[i])[1] < objectName.FindStringSubmatch(sorted[j])[1]
	})
	return strings.Join(sorted, ";")
})
