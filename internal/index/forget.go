package index

import (
	"context"
	"fmt"

	"github.com/gatebook/gatebook/evidence"
)

// forgetting turns the rows of a session, ?1 its row, into what an index would
// hold that was made after the session's key was erased.
var forgetting = []string{
	// The search table has no copy of the text, so it must be told what to take out.
	`INSERT INTO search (search, rowid, text) SELECT 'delete', t.entry, t.text FROM statement t
		JOIN exchange_row e ON e.first_entry = t.entry WHERE e.session = ?1`,
	`DELETE FROM statement WHERE entry IN (SELECT first_entry FROM exchange_row WHERE session = ?1)`,
	`UPDATE exchange_row SET body = 'erased', op = NULL, origin = NULL, rule = NULL, reason = NULL, code = NULL, effects = NULL, privileged = NULL, fingerprint = NULL,
		text_bytes = NULL, parameters = NULL, config = NULL, status = NULL, tag = NULL, sqlstate = NULL, rows = NULL, bytes = NULL,
		answer_chunks = NULL, request_chunks = NULL, answer_sha256 = NULL, ready_us = NULL, total_us = NULL, cause = NULL
		WHERE session = ?1`,
	`UPDATE session_row SET body = 'erased', principal = NULL, issuer = NULL, subject = NULL, name = NULL, owner = NULL, groups = NULL,
		acting = NULL, target = NULL, protocol = NULL, database = NULL, role = NULL, rule = NULL, origin = NULL, purpose = NULL, listener = NULL,
		source = NULL, application = NULL, token_sha256 = NULL, token_id = NULL, token_expiry = NULL, may_run_until = NULL, lifetime_rule = NULL,
		config = NULL, boot = NULL, upstream_address = NULL, upstream_local = NULL, upstream_user = NULL,
		end_cause = NULL, seconds = NULL, recovered = NULL, failed = 0, rows = 0, bytes = 0 WHERE first_entry = ?1`,
	`UPDATE identity_row SET body = 'erased', issuer = NULL, renewal = NULL, token_sha256 = NULL, token_expiry = NULL,
		may_run_until = NULL, lifetime_rule = NULL WHERE session = ?1`,
	`UPDATE note_row SET body = 'erased', what = NULL, detail = NULL WHERE session = ?1`,
	`UPDATE cancel_row SET body = 'erased', cancelled_by = NULL, source = NULL, effect = NULL WHERE session = ?1`,
	`UPDATE alert_row SET body = 'erased', alert = NULL, what = NULL, ticket = NULL, person = NULL, principal = NULL, target = NULL, text = NULL
		WHERE session = (SELECT session FROM session_row WHERE first_entry = ?1)`,
	`UPDATE ticket_row SET body = 'erased', ticket = NULL, digest = NULL, rules = NULL, requester = NULL, requires = NULL, expires = NULL,
		state = CASE WHEN state IN ('open', 'released') THEN state ELSE 'ended' END, cause = NULL, approved_by = NULL WHERE session = ?1`,
	`UPDATE ruling_row SET body = 'erased', ticket = NULL, person = NULL, identity = NULL, groups = NULL, verdict = NULL, reason = NULL, proof = NULL
		WHERE session = ?1`,
}

// Forget takes out what the index holds from the sealed bodies of a session,
// after the session's data key was erased. What the headers say stays. It is
// no error if the session is not in the index. When Forget returns nil the
// texts are overwritten in the database and its log is empty, unless a query
// that is running still reads it: then the log shrinks with a later batch.
func (x *Index) Forget(ctx context.Context, session evidence.ID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return ErrClosed
	}
	row, err := x.w.row(ctx, "SELECT first_entry FROM session_row WHERE session = ?", session.String())
	if err != nil || row == nil {
		return asRebuild(err)
	}
	ctx = context.WithoutCancel(ctx)
	if err := x.w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, sql := range append(forgetting, "COMMIT") {
		args := []any{row[0]}
		if sql == "COMMIT" {
			args = nil
		}
		if err := x.w.exec(ctx, sql, args...); err != nil {
			_ = x.w.exec(ctx, "ROLLBACK")
			return asRebuild(fmt.Errorf("forget session %s: %w", session, err))
		}
	}
	return x.w.exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
}
