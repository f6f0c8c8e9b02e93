//go:build !race

package kubejwt

const raceEnabled = false
