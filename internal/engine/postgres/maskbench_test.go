package postgres

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// BenchmarkMaskRows masks 1,000 rows of an id, a name, an address and a note.
func BenchmarkMaskRows(b *testing.B) {
	var rows []byte
	for n := range 1000 {
		body := binary.BigEndian.AppendUint16(nil, 4)
		for _, v := range []string{fmt.Sprint(n), fmt.Sprintf("Person %d", n), fmt.Sprintf("person%d@example.com", n), fmt.Sprintf("asked about order %d of 17 May and was told that it is on its way", n)} {
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(v))), v...) //nolint:gosec // short
		}
		rows = append(rows, pgwire.AppendFrame(nil, 'D', body)...)
	}
	mails := rule(b, mask.Rule{Name: "mails", Columns: []string{"public.people.email"}, Method: mask.Partial, KeepDomain: true})
	kinds := rule(b, mask.Rule{Name: "found", Kinds: []string{"*"}, Method: mask.Redact})
	for name, p := range map[string]*plan{
		"column":    {set: mask.NewSet([]*mask.Rule{mails}, nil, nil), answers: []masking{{cells: []cell{{}, {}, {rule: mails, column: "public.people.email", plain: true, typ: 25}, {}}}}},
		"detectors": {set: mask.NewSet([]*mask.Rule{kinds}, nil, detectors(b)), answers: []masking{{cells: make([]cell, 4)}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(rows)))
			b.ReportAllocs()
			ex := &exch{plan: p, columns: []column{{typ: 23}, {typ: 25}, {typ: 25}, {typ: 25}}}
			ex.cells = mask.NewCells(mails.Key, "session", 1)
			var out []byte
			var err error
			for b.Loop() {
				ex.commitments = ex.commitments[:0]
				if out, err = ex.mask(out[:0], rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
