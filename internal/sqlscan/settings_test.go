package sqlscan

import (
	"testing"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	names := []string{"client_encoding"}
	tests := []struct {
		text string
		want []Setting
	}{
		{"SELECT 1", nil},
		{"SET client_encoding = 'SJIS'", []Setting{{Name: "client_encoding", Value: "SJIS"}}},
		{"SET LOCAL Client_Encoding TO latin1", []Setting{{Name: "client_encoding", Value: "latin1"}}},
		{"SET NAMES 'x'; SELECT 1", []Setting{{Name: "client_encoding", Value: "x"}}},
		{"RESET client_encoding", []Setting{{Name: "client_encoding", Reset: true}}},
		{"SET client_encoding TO DEFAULT", []Setting{{Name: "client_encoding", Reset: true}}},
		{"ALTER ROLE r SET client_encoding = 'x'", []Setting{{Name: "client_encoding", Value: "x"}}},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET client_encoding = 'x' AS 'SELECT 1'", []Setting{{Name: "client_encoding", Value: "x"}}},
		{"SELECT set_config('client_encoding', 'x', true)", []Setting{{Name: "client_encoding", Value: "x"}}},
		{"SELECT * FROM t WHERE a IN (SELECT pg_catalog.set_config('client_encoding', v, true))", []Setting{{Name: "client_encoding", DynamicValue: true}}},
		{"SELECT set_config(n, 'x', true)", []Setting{{Value: "x", DynamicName: true}}},
		{"SELECT set_config('search_path', '', false)", nil},
		{"SELECT 'SET client_encoding = x'", nil},
		{"SET client_encoding = ", nil},
	}
	for _, tt := range tests {
		got := Settings(tt.text, names)
		if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
			t.Errorf("%s: got %+v, want %+v", tt.text, got, tt.want)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("SET client_encoding = 'x'")
	f.Add("SELECT set_config((((((1))))), CASE WHEN names THEN 1 END)")
	f.Fuzz(func(_ *testing.T, text string) { Settings(text, []string{"client_encoding"}) })
}
