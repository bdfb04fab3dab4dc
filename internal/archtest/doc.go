// Package archtest holds the tests of the architecture's rules: who may import
// whom, which packages may touch the world, and that every package says what it is for.
package archtest
