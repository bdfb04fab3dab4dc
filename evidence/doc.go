// Package evidence defines Gatebook's entry and package formats and verifies
// packages offline. It is the public part of the module: an auditor's own
// program can import it, and it imports nothing of ours.
//
// An entry is a small public Header (one line of JSON, a leaf of an RFC 6962
// Merkle tree) and a body that the header commits to with SHA-256(salt ‖
// body). A package discloses every header of a range and some of the bodies;
// the signed checkpoint that closes the range makes both unchangeable.
//
// The formats are written down in docs/formats. Stored bytes are hashed, never
// re-serialised ones: a header is the exact line that was written, a body the exact bytes.
package evidence
