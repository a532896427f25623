// Command holdfast runs an IoT edge event gateway and talks to a running one.
package main

import (
	"os"
	_ "time/tzdata" // the zones of cron, on devices that have none of their own
)

func main() { os.Exit(execute(os.Args[1:])) }
