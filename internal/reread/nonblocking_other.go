//go:build !unix

package reread

const nonBlocking = 0 // only Unix has named pipes in folders
