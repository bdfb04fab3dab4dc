// Command gatebook is the gate that keeps the book: an identity-aware gateway
// in the data path between autonomous agents and what they act on.
package main

import (
	"os"

	"github.com/gatebook/gatebook/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
