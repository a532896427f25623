// Package prove holds the proofs of what Holdfast promises: tests that start
// the real binary, load it through its sockets, kill it, fill its disk and cut
// its power, and compare what was acknowledged with what arrives. Nothing here
// links against the gateway; the wire is all it knows.
//
// The proofs take minutes and some need root, loop devices or cgroups, so they
// are built only with the tag prove:
//
//	go test -tags prove -v -run TestKill ./gateway/prove
//
// .ci/run runs them all, in their short form, whose figures the README quotes;
// with PROVE_LONG=1 in their long form. HOLDFAST_BIN names a binary to use
// instead of one built for the occasion. A proof that cannot run here says why
// and is skipped; with CI=true it fails instead.
package prove
