// Package bench holds this library beside its peers. It is a module of its own,
// so that they don't enter the graph of those who use the library.
package bench
