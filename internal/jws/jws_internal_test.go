package jws

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"testing"
)

// The signature that crypto/ecdsa gets is the one that encoding/asn1 writes. No
// curve is 62 bytes wide: at that width one of 127 bytes, the last that have a
// length of one byte, can be made.
func TestAppendASN1(t *testing.T) {
	one := big.NewInt(1)
	for _, width := range []uint{32, 48, 62, 66} {
		numbers := []*big.Int{new(big.Int), one, big.NewInt(0x7f), big.NewInt(0x80)}
		for _, bits := range []uint{8*width - 9, 8*width - 8, 8*width - 1, 8 * width} {
			numbers = append(numbers, new(big.Int).Sub(new(big.Int).Lsh(one, bits), one), new(big.Int).Lsh(one, bits-1))
		}
		for _, r := range numbers {
			for _, s := range numbers {
				signature := make([]byte, 2*width)
				r.FillBytes(signature[:width])
				s.FillBytes(signature[width:])
				want, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
				if err != nil {
					t.Fatal(err)
				}
				if got := appendASN1([]byte("before"), signature); !bytes.Equal(got, append([]byte("before"), want...)) {
					t.Errorf("r %x, s %x at a width of %d: %x, want %x", r, s, width, got, want)
				}
			}
		}
	}
}
