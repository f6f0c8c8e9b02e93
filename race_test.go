//go:build race

package kubejwt

// raceEnabled says that everything takes ten times as long.
const raceEnabled = true
