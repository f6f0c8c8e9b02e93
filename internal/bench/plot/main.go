// Plot draws the pictures of docs, and writes the tables that belong to them:
//
//	go run ./plot keys ../../docs/keys.csv ../../docs/keys.svg
//	go run ./plot revocation ../../docs/revocation.csv ../../docs/revocation.svg
//	go run ./plot speed bench.txt
//	go run ./plot speed bench.txt ../../docs/speed.md ../../docs/speed.svg
//
// keys.csv is what TestSimulation of the root module writes, revocation.csv what
// TestWatchLatency of internal/e2e does, and bench.txt the
// output of this module's benchmarks, as benchstat reads it.
package main

import (
	"bytes"
	"errors"
	"log"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
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
	case len(args) == 3 && args[0] == "revocation":
		return drawRevocation(args[1], args[2])
	case len(args) == 2 && args[0] == "speed":
		return printSpeed(args[1], os.Stdout)
	case len(args) == 4 && args[0] == "speed":
		return writeSpeed(args[1], args[2], args[3])
	default:
		return errors.New("usage: plot keys CSV SVG, plot revocation CSV SVG, or plot speed BENCHMARKS [MARKDOWN SVG]")
	}
}

// typeface has the widths of what most readers have: Arial, Helvetica.
const typeface = "Liberation Sans"

func newPlot(title string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	p := plot.New()
	p.Title.Text = title
	return p
}

// save writes a picture that needs no font of this machine.
func save(p *plot.Plot, to string) error {
	picture, err := p.WriterTo(24*vg.Centimeter, 11*vg.Centimeter, "svg")
	if err != nil {
		return err
	}
	var svg bytes.Buffer
	if _, err := picture.WriteTo(&svg); err != nil {
		return err
	}
	families := []byte("font-family:" + typeface + ",Arial,Helvetica,sans-serif;")
	return os.WriteFile(to, bytes.ReplaceAll(svg.Bytes(), []byte("font-family:"+typeface+";"), families), 0o644)
}
