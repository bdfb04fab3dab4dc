package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// SSHNamespace is the namespace of a package's SSH signature, as given to
// ssh-keygen -Y verify -n.
const SSHNamespace = "gatebook-evidence"

const sshEd25519 = "ssh-ed25519"

func appendSSH(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func sshPublic(pub ed25519.PublicKey) string {
	return string(appendSSH(appendSSH(nil, sshEd25519), string(pub)))
}

// SSHAuthorizedKey returns an Ed25519 key in the form of authorized_keys.
func SSHAuthorizedKey(pub ed25519.PublicKey) string {
	return sshEd25519 + " " + base64.StdEncoding.EncodeToString([]byte(sshPublic(pub)))
}

// parseSSHKey reads what SSHAuthorizedKey wrote; a comment may follow.
func parseSSHKey(line string) (ed25519.PublicKey, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != sshEd25519 {
		return nil, errors.New("want a key \"ssh-ed25519 BASE64\"")
	}
	raw, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return nil, err
	}
	want := len(appendSSH(appendSSH(nil, sshEd25519), strings.Repeat("x", ed25519.PublicKeySize)))
	if len(raw) != want {
		return nil, fmt.Errorf("key of %d bytes, want %d", len(raw), want)
	}
	pub := ed25519.PublicKey(raw[want-ed25519.PublicKeySize:])
	if sshPublic(pub) != string(raw) {
		return nil, errors.New("malformed key")
	}
	return pub, nil
}

// sshSigned is what an SSH signature signs (OpenSSH, PROTOCOL.sshsig).
func sshSigned(message []byte) []byte {
	d := sha512.Sum512(message)
	out := []byte("SSHSIG")
	for _, s := range []string{SSHNamespace, "", "sha512", string(d[:])} {
		out = appendSSH(out, s)
	}
	return out
}

// SignSSH returns an armoured SSH signature that ssh-keygen -Y verify accepts.
func SignSSH(key ed25519.PrivateKey, message []byte) []byte {
	sig := ed25519.Sign(key, sshSigned(message))
	blob := binary.BigEndian.AppendUint32([]byte("SSHSIG"), 1)
	for _, s := range []string{
		sshPublic(key.Public().(ed25519.PublicKey)), SSHNamespace, "", "sha512",
		string(appendSSH(appendSSH(nil, sshEd25519), string(sig))),
	} {
		blob = appendSSH(blob, s)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob})
}

// verifySSH checks an armoured SSH signature by a key that the caller trusts.
// Exactly the form that SignSSH writes is accepted.
func verifySSH(pub ed25519.PublicKey, message, armoured []byte) error {
	block, rest := pem.Decode(armoured)
	if block == nil || block.Type != "SSH SIGNATURE" || len(bytes.TrimSpace(rest)) != 0 {
		return errors.New("not an SSH signature")
	}
	prefix := binary.BigEndian.AppendUint32([]byte("SSHSIG"), 1)
	for _, s := range []string{sshPublic(pub), SSHNamespace, "", "sha512"} {
		prefix = appendSSH(prefix, s)
	}
	if !bytes.HasPrefix(block.Bytes, prefix) {
		return errors.New("the signature is by another key or for another namespace")
	}
	tail := block.Bytes[len(prefix):]
	want := appendSSH(nil, string(appendSSH(appendSSH(nil, sshEd25519), strings.Repeat("s", ed25519.SignatureSize))))
	if len(tail) != len(want) || !bytes.Equal(tail[:len(tail)-ed25519.SignatureSize], want[:len(want)-ed25519.SignatureSize]) {
		return errors.New("malformed SSH signature")
	}
	if !ed25519.Verify(pub, sshSigned(message), tail[len(tail)-ed25519.SignatureSize:]) {
		return errors.New("the SSH signature does not hold")
	}
	return nil
}
