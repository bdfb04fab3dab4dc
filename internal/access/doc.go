// Package access is the vocabulary that the door, the engines and the
// deciders share: who asks (Principal), for what (Target, Action), what was
// decided (Decision, DenyError) and what came of it (Outcome).
//
// It holds values only: no input or output, no clocks, no credentials. Zero
// values are the safe ones: the zero Verdict is Deny, the zero Action is
// opaque.
package access
