// Command holdfast runs an IoT edge event gateway and talks to a running one.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:])) }
