// Package ops is what operators and their tools see of a running gateway:
// health and metrics over HTTP, and the control socket through which the
// holdfast command asks for its status, its live events and a reload.
//
// The package knows the gateway only by the [Gateway] interface that it
// declares, and shows what [Status] says; it keeps no figures of its own.
//
// On the HTTP address:
//
//	/livez    200 while the process can answer
//	/readyz   200 if the gateway takes events, 503 if its state is failed;
//	          a cloud that is away is degraded, and degraded is ready
//	/healthz  the state and its reasons as JSON, with the status of /readyz
//	/metrics  holdfast_… in base units, and those of the Go process
//
// On the control socket, which only its owner and group can open:
//
//	GET  /v1/status     Status as JSON
//	POST /v1/reload     reload the configuration; 422 if it has mistakes
//	GET  /v1/tail       events as NDJSON, see TailQuery
//	GET  /v1/dead       open dead letters as NDJSON, see LetterQuery
//	POST /v1/dead/retry, /v1/dead/purge  settle those that the query selects
//	POST /v1/verify     begin a recount of the ledger, unless one is under way
//	GET  /v1/verify     how far it is, and what it found: see Verification
//	     /debug/pprof/  profiles of the process
package ops
