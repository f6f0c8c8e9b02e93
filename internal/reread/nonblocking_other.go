//go:build !unix

package reread

const nonBlocking = 0 // there are no pipes in folders
