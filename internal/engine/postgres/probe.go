package postgres

import (
	"context"
	"encoding/json"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

const textRights = `SELECT current_user, rolsuper, rolreplication, rolbypassrls, rolcreaterole, rolcreatedb
 FROM pg_catalog.pg_roles WHERE rolname = current_user`

const textColumns = `SELECT n.nspname || '.' || c.relname || '.' || a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`

// Probe implements engine.Driver.
func (d *Driver) Probe(ctx context.Context, s *enforce.Session) (*engine.Probe, error) {
	ctx, stop := context.WithTimeout(ctx, d.limits.Startup)
	defer stop()
	params := map[string]string{"application_name": "gatebook check"}
	u, err := login(ctx, s, "", params, d.limits.Value)
	if err != nil {
		return nil, err
	}
	defer func() {
		_, _ = u.conn.Write([]byte{'X', 0, 0, 0, 4})
		_ = u.conn.Close()
	}()
	undo := context.AfterFunc(ctx, func() { _ = u.conn.SetDeadline(past) })
	defer undo()
	detail, err := json.Marshal(map[string]any{"pid": u.pid, "tls": u.tlsInfo, "server_version": u.param("server_version")})
	if err != nil {
		return nil, err
	}
	if _, err := s.Reached(&enforce.Upstream{Conn: u.conn, User: u.param("session_authorization")}, detail); err != nil {
		return nil, err
	}
	rows, err := u.own(ctx, s, textRights)
	if err != nil {
		return nil, err
	}
	probe := &engine.Probe{Version: u.param("server_version"), TLS: u.tlsInfo}
	if len(rows) == 1 && len(rows[0]) == 6 {
		probe.User = rows[0][0]
		for i, right := range []string{"superuser", "replication", "bypass-row-security", "create-role", "create-database"} {
			if rows[0][i+1] == "t" {
				probe.Rights = append(probe.Rights, right)
			}
		}
	}
	if rows, err = u.ownRows(ctx, s, textColumns, maxFrame); err != nil {
		return nil, err
	}
	for _, row := range rows {
		probe.Columns = append(probe.Columns, row[0])
	}
	return probe, nil
}
