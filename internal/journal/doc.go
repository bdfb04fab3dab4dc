// Package journal keeps opaque payloads in durable append-only files. It
// gives each payload a dense sequence number, writes many of them with one
// sync (group commit), and after a crash says exactly which it still has.
//
// It must never return nil from Ticket.Wait for a payload that a crash could
// take away, never write again after a write or sync failed, and never accept
// damage at or below a place it knows to have been durable. It knows nothing
// about what the payloads mean. A Log is safe for concurrent use; a Reader
// belongs to one goroutine.
//
// # Files
//
// A journal is a directory of segment files, named by the sequence number of
// their first payload in twenty decimal digits and ".seg". Files that end in
// ".tmp" are segments being prepared; they hold nothing of value and are
// removed at Open. All integers are little endian, all checksums are CRC-32C
// (Castagnoli), everything starts at a multiple of 8 bytes.
//
// A segment starts with a header of 128 bytes:
//
//	  0  8  magic "GBJRNL\r\n"
//	  8  4  version, 1
//	 12  4  zero
//	 16 16  journal id, random, the same in all segments
//	 32  8  segment id, random
//	 40  8  first sequence number
//	 48  8  segment id of the segment before, 0 in the first
//	 56  8  first sequence number of the segment before
//	 64  8  its length in bytes, as far as it counts
//	 72 16  its chain value at that place
//	 88 36  zero
//	124  4  checksum of bytes 0 to 123
//
// Then come batches, one for each group commit. A batch is a commit frame of
// 88 bytes, followed by its data frames:
//
//	 0  4  magic "GBcf"
//	 4  4  checksum of bytes 8 to 87
//	 8  8  segment id
//	16  8  offset of this frame in the file
//	24  8  sequence number of the first payload
//	32  8  known durable: all payloads below were durable when this was written
//	40  4  number of payloads; 0 in the frame that a clean Close writes
//	44  4  zero
//	48  8  length of all data frames
//	56 16  chain value before this batch
//	72 16  chain value of this batch
//
// and each data frame:
//
//	 0  4  length of the payload
//	 4  4  checksum over segment id, bytes 8 to 15, bytes 0 to 3, payload, padding
//	 8  8  sequence number
//	16  n  payload, then zero padding to a multiple of 8
//
// The chain value of a batch is the first 16 bytes of SHA-256 over the chain
// value before it, bytes 8 to 55 of the commit frame, and the 16 byte heads of
// its data frames. The first batch of a segment starts from the chain value in
// the header, the first of a journal from zero. Every payload byte is thus
// covered by a checksum, and every checksum, length, order and count by the
// chain; hashing the payloads themselves would cost the hot path a second pass
// over all bytes and defend against nobody, since whoever can edit the file
// can compute the hashes. Resistance to editing is the ledger's signed tree.
//
// The commit frame leads its batch, because the writer knows the whole batch
// before it writes one byte; a reader then knows what to expect, and recovery
// can find a later commit frame behind a damaged batch. The bytes behind the
// last batch are zero (preallocated).
//
// Stale bytes of another file cannot be taken for valid ones: every frame is
// bound to its random segment id, a commit frame also to its own offset, and a
// data frame to its sequence number.
//
// # What is known to be durable
//
// The header of a segment says that everything below its first sequence
// number is durable, since the segment before was synced before this one was
// begun. A commit frame says the same of its known-durable mark. The caller
// may know more, from a signed checkpoint (Options.KnownDurable). Damage below
// the highest of these marks is refused with ErrCorrupt. Unsynced pages reach
// the disk in any order, so above it anything may be missing: the tail is cut
// at the first batch that is not whole, even when a later batch is.
//
// # Recovery
//
// Open never appends to a segment of an earlier process. It begins a new one
// whose first sequence number is the highest mark, copies the batches that
// survived above it into the new segment, and syncs it: after a failed sync
// they may exist in the page cache alone. The new segment's header says how
// far the one before counts, so what is left behind there is superseded. If no
// payload of the last segment was known durable, the new one has the same name
// and replaces it.
package journal
