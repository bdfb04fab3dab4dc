// Command tamper makes altered evidence packages, to show what verification
// notices: one flipped byte, or what somebody changes who has every key of
// the gateway and signs everything anew.
//
//	tamper flip PACKAGE ALTERED
//	tamper claims|decision PACKAGE ALTERED KEYS-DIRECTORY
package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/testkit/forge"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tamper:", err)
		os.Exit(1)
	}
}

// edits are what somebody with all keys changes.
var edits = map[string]forge.Edit{"claims": claims, "decision": decision}

func run(args []string) error {
	if len(args) < 3 {
		return errUsage
	}
	pkg, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	edit := edits[args[0]]
	switch {
	case len(args) == 3 && args[0] == "flip":
		pkg, err = flip(pkg)
	case len(args) == 4 && edit != nil:
		var changed int
		pkg, changed, err = forge.Forge(pkg, args[3], edit)
		fmt.Printf("changed %d entries and signed tree, checkpoint and package anew\n", changed)
	default:
		err = errUsage
	}
	if err != nil {
		return err
	}
	return os.WriteFile(args[2], pkg, 0o600)
}

var errUsage = errors.New("usage: tamper flip PACKAGE ALTERED | tamper claims|decision PACKAGE ALTERED KEYS-DIRECTORY")

// flip changes one bit of one body: it packs the files again with nothing else changed.
func flip(pkg []byte) ([]byte, error) {
	files, order, err := forge.Read(pkg)
	if err != nil {
		return nil, err
	}
	const name = "data/log/bodies.jsonl"
	text := files[name]
	at := len(text) / 2
	for text[at] < 'a' || text[at] > 'y' {
		at++
	}
	text[at]++
	fmt.Printf("changed byte %d of %s\n", at, name)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, name := range order {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			return nil, err
		}
	}
	err = z.Close()
	return out.Bytes(), err
}

// claims says that every agent was a database administrator, wherever the
// book says otherwise, but in the token, whose signature nobody here can make.
func claims(h *evidence.Header, body []byte) []byte {
	if h.Kind != evidence.KindSession && h.Kind != evidence.KindIdentity && h.Kind != evidence.KindPrincipal {
		return body
	}
	return []byte(strings.ReplaceAll(string(body), `"groups":["agents"`, `"groups":["dba"`))
}

// decision says of every change that the pipeline's rule allowed that it had passed as a read.
func decision(h *evidence.Header, body []byte) []byte {
	if h.Kind != evidence.KindIntent {
		return body
	}
	return []byte(strings.ReplaceAll(string(body), `"rule":"pipeline-writes"`, `"rule":"reads"`))
}
