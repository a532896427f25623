//go:build !prove

package conformance

import "time"

// longestWait is how long nobody may be held up by others. Who waits for
// another's socket waits for the ten seconds in which that has to take something,
// and a machine that is busy with other tests must not be taken for that. The
// promise is judged with the tag prove.
const longestWait = 8 * time.Second
