package judge

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

const (
	requestOp = "request"         // of what asks for a list of statements
	listRule  = "gateway.request" // by which a list passes that nothing holds
)

// decideList decides again on a list of statements: each as if it came by itself. all is what the record says that they do together.
func (p Recorded) decideList(r *evidence.Request, all *access.Action) (evidence.Decided, error) {
	list, err := listed(r)
	if err != nil {
		return evidence.Decided{}, err
	}
	out := evidence.Decided{Decision: access.Allow.String(), Rule: listRule}
	for i := range list {
		got, err := p.Decide(&list[i])
		switch {
		case err != nil:
			return evidence.Decided{}, fmt.Errorf("statement %d: %w", i+1, err)
		case got.Decision == access.Denied.String():
			return together(got, list, all)
		case got.Decision != access.Hold.String():
			continue
		case out.Rule == listRule:
			out = got
			continue
		}
		for _, q := range got.Requires {
			if !slices.ContainsFunc(out.Requires, func(have evidence.Approvers) bool { return have.Rule == q.Rule }) {
				out.Requires = append(out.Requires, q)
			}
		}
	}
	return together(out, list, all)
}

// listed returns a recorded list's statements as requests of their own. Its error says that they are not those of the text.
func listed(r *evidence.Request) ([]evidence.Request, error) {
	asked, err := sqlscan.ParseList(r.Intent.Text)
	if err != nil {
		return nil, err
	}
	if len(asked.Statements) != len(r.Intent.List) {
		return nil, errors.New("the recorded list is that of another text")
	}
	var list []evidence.Request
	for i, l := range r.Intent.List {
		if evidence.TrimStatement(asked.Statements[i]) != l.Text {
			return nil, errors.New("the recorded list is that of another text")
		}
		one, does := *r.Intent, &evidence.Action{}
		one.Op, one.Text, one.Opaque, one.Action, one.Sensitive, one.Infers, one.List = "query", l.Text, l.Opaque, l.Action, l.Sensitive, l.Infers, nil
		if err := json.Unmarshal(l.Action, does); err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		list = append(list, evidence.Request{Header: r.Header, Session: r.Session, Principal: r.Principal, Intent: &one, Action: does})
	}
	return list, nil
}

// together completes a decision on a list, and checks that what the record says of all is what its statements do.
func together(d evidence.Decided, list []evidence.Request, all *access.Action) (evidence.Decided, error) {
	actions := make([]*access.Action, len(list))
	for i := range list {
		var err error
		if actions[i], err = action(list[i].Intent, list[i].Action); err != nil {
			return d, err
		}
	}
	want := access.Together(actions)
	if want.Understood != all.Understood || want.Effects != all.Effects || want.HasFilter != all.HasFilter || !same(want.Statements, all.Statements) {
		return d, errors.New("the recorded action is not that of the list's statements")
	}
	d.Privileged, _ = want.Privileged()
	return d, nil
}
