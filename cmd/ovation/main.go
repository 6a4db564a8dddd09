// Command ovation works with virtual appliances: OVF and OVA packages.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

// run is main for the tests too.
func run() int {
	noCore()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal cancels; after that the default is back, so that a
	// second one ends a program that is stuck.
	context.AfterFunc(ctx, stop)

	app := newApp(os.Stdin, os.Stdout, os.Stderr)
	return app.run(ctx, os.Args[1:])
}
