// Package bench compares this library with its peers. It is a module of its own, so
// that users of the library don't depend on them.
package bench
