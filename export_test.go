package kubejwt

import "flag"

// Long has the long tests run in full: .ci/run sets it, in a run without the
// race detector.
var Long = flag.Bool("long", false, "run the simulation, and change tokens at every place in every way")
