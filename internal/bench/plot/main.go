// Plot draws the pictures of docs, and writes the tables that belong to them:
//
//	go run ./plot keys ../../docs/keys.csv ../../docs/keys.svg
//	go run ./plot speed bench.txt
//	go run ./plot speed bench.txt ../../docs/speed.md ../../docs/speed.svg
//
// keys.csv is what TestSimulation of the root module writes, and bench.txt the
// output of this module's benchmarks, as benchstat reads it.
package main

import (
	"errors"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal("plot: ", err)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "keys":
		return drawKeys(args[1], args[2])
	case len(args) == 2 && args[0] == "speed":
		return printSpeed(args[1], os.Stdout)
	case len(args) == 4 && args[0] == "speed":
		return writeSpeed(args[1], args[2], args[3])
	default:
		return errors.New("usage: plot keys CSV SVG, or plot speed BENCHMARKS [MARKDOWN SVG]")
	}
}
