//go:build unix

package reread

import "syscall"

const nonBlocking = syscall.O_NONBLOCK
