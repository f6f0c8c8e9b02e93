package revocation

// Long reports whether the long tests are to run in full.
func Long() bool { return *long }
