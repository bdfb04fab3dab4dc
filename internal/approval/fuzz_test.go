package approval

import (
	"strings"
	"testing"
)

// FuzzStatement: what is read as a ruling has one form, so that what a person signed cannot be read in two ways; and no two rulings have
// one nonce.
func FuzzStatement(f *testing.F) {
	for _, v := range []Verdict{Approve, Deny, BreakGlass} {
		f.Add(Statement("k7q2m7xdsv4hplfn", strings.Repeat("5f", 32), v, "because \"so\"\n"))
	}
	f.Add("gatebook-ruling 1\nticket a\ndigest b\napprove\n\"\\u0061\"\n")
	random := strings.Repeat("r", minRandom)
	f.Fuzz(func(t *testing.T, text string) {
		said, err := ParseStatement(text)
		if err != nil {
			return
		}
		if got := Statement(said.Ticket, said.Digest, said.Verdict, said.Reason); got != text {
			t.Fatalf("%q reads as %q", text, got)
		}
		if strings.Contains(said.Ticket+said.Digest, "\n") || len(said.Reason) > maxReason {
			t.Fatalf("%+v", said)
		}
		one, err := Nonce(text, random)
		if err != nil {
			t.Fatal(err)
		}
		other := said
		other.Verdict = map[Verdict]Verdict{Approve: Deny, Deny: Approve, BreakGlass: Deny}[said.Verdict]
		two, err := Nonce(Statement(other.Ticket, other.Digest, other.Verdict, other.Reason), random)
		if err != nil || one == two {
			t.Fatalf("%v, one nonce for two rulings", err)
		}
	})
}
