//go:build prove

package conformance

import "time"

// longestWait is how long nobody may be held up by others.
const longestWait = time.Second
