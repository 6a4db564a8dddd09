package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk/nbd"
	"github.com/ovation-project/ovation/internal/term"
)

// nbdFlags are what nbd is told.
type nbdFlags struct {
	listen  string
	export  string
	format  string
	run     string
	readyFD int
	noCache bool
	fill    bool
	tls     tlsFlags
	trust   trustFlags
}

func newNBDCommand(a *app) *cobra.Command {
	f := nbdFlags{readyFD: -1}
	c := &cobra.Command{
		Use:   "nbd LOCATOR[#DISK] | IMAGE",
		Short: "Serve disks of a package, or an image, to other programs over NBD",
		Long: `Serve virtual disks, read-only, by the NBD protocol to qemu-img, QEMU, nbdinfo,
nbdcopy, nbd-client and other programs: nothing is converted or copied before.
LOCATOR alone serves all disks of the package, LOCATOR#DISK one of them, and
IMAGE a disk image in any format. All may lie on a web server.

It serves until it is interrupted, or --run's command has ended. Without
--listen it serves on a Unix socket in a new folder that only you can enter.

Of a package that has digests of chunks ('ovation sign --chunks') nothing is handed
on that was not proved by them. Other files are not compared with the manifest:
'ovation verify' does that. What is fetched from a web server is fetched once and
kept in the cache; --fill fetches the rest as well, and compares all with the
manifest.`,
		Example: `  ovation nbd appliance.ova
  ovation nbd appliance.ova#vmdisk1 --listen unix:/tmp/disk.sock
  ovation nbd https://example.org/appliance.ova --run 'nbdcopy "$uri" disk.img'
  ovation nbd disk.vmdk --listen tcp:0.0.0.0:10809 --tls-cert server.pem --tls-key server.key --tls-ca ca.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.serveNBD(c.Context(), args[0], f) },
	}
	c.Flags().StringVar(&f.listen, "listen", "", "where to serve: unix:PATH or tcp:HOST:PORT, port 0 being any that is free")
	c.Flags().StringVar(&f.export, "export", "", "the name of the export, where there is one disk only (default: the disk's ID; for an image none)")
	c.Flags().StringVar(&f.run, "run", "", "run a shell command with $uri, $unixsocket, $port, $exportname and $uris set, and end with it")
	c.Flags().BoolVar(&f.noCache, "no-cache", false, "keep nothing of what is fetched for the next time")
	c.Flags().BoolVar(&f.fill, "fill", false, "fetch the rest of a package's disks in the background, so that the network may go, and compare them with the manifest")
	c.Flags().IntVar(&f.readyFD, "ready-fd", -1, "write the URIs to this open file descriptor, one a line, and close it")
	formatFlag(c, &f.format, "format", "the format of the image")
	f.tls.register(c, true)
	f.trust.registerPolicy(c.Flags())
	return c
}

// nbdExport is what nbd says of one export.
type nbdExport struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	URI         string `json:"uri"`
	Size        int64  `json:"size"`
	Format      string `json:"format"`
}

// nbdServing is what nbd says when it is ready.
type nbdServing struct {
	APIVersion string      `json:"apiVersion"`
	Address    string      `json:"address"`
	TLS        bool        `json:"tls"`
	Exports    []nbdExport `json:"exports"`
}

func (a *app) serveNBD(ctx context.Context, name string, f nbdFlags) (err error) {
	config, err := f.tls.config()
	if err != nil {
		return err
	}
	served, err := a.openNBD(ctx, name, f)
	defer func() { err = errors.Join(err, served.close()) }()
	if err != nil {
		return err
	}
	images := served.images
	if f.export != "" {
		if len(images) > 1 {
			return usagef("--export names one disk, and %s has %d: write %s#DISK", shown(name), len(images), shown(name))
		}
		images[0].export = f.export
	}
	if f.listen == "" {
		dir, err := os.MkdirTemp("", "ovation-nbd-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		f.listen = "unix:" + filepath.Join(dir, "socket")
	}
	if network, _, _ := strings.Cut(f.listen, ":"); network != "unix" && network != "tcp" {
		return usagef("--listen is unix:PATH or tcp:HOST:PORT, not %q", f.listen)
	}
	l, err := nbd.Listen(ctx, f.listen)
	if err != nil {
		return err
	}

	server := &nbd.Server{TLS: config, Log: a.log, OnError: func(export string, off, n int64, err error) {
		a.warn("export %q: %d bytes at offset %d: %v", export, n, off, err)
	}}
	said := nbdServing{APIVersion: "ovation/nbd/v1", Address: l.Addr().Network() + ":" + l.Addr().String(), TLS: config != nil}
	for _, i := range images {
		server.Exports = append(server.Exports, nbd.Export{Name: i.export, Description: i.description, Image: i.Image})
		said.Exports = append(said.Exports, nbdExport{
			i.export, i.description, nbd.URI(l.Addr(), i.export, config != nil), i.Size(), i.info().Format,
		})
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- server.Serve(ctx, l)
	}()
	useless := served.watch(ctx, a, f.fill, stop)
	if err = a.readyNBD(said, f); err == nil {
		if f.run != "" {
			err = runBeside(ctx, a, f.run, said, l.Addr())
		} else {
			<-ctx.Done()
		}
	}
	stop()
	return errors.Join(useless(), err, <-ended)
}

// readyNBD says what is served.
func (a *app) readyNBD(said nbdServing, f nbdFlags) error {
	switch {
	case a.json:
		if err := a.printJSON(said); err != nil {
			return err
		}
	case f.run == "": // with a command, standard output is the command's
		for _, e := range said.Exports {
			a.out.Printf("%s\n", term.Clean(e.URI))
		}
	}
	if err := a.out.Err(); err != nil {
		return err
	}
	if f.readyFD < 0 {
		return nil
	}
	w := os.NewFile(uintptr(f.readyFD), "ready-fd")
	if w == nil {
		return usagef("--ready-fd: %d is no file descriptor", f.readyFD)
	}
	_, err := fmt.Fprintln(w, strings.Join(said.uris(), "\n"))
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("--ready-fd: %w", err)
	}
	return nil
}

func (s nbdServing) uris() (uris []string) {
	for _, e := range s.Exports {
		uris = append(uris, e.URI)
	}
	return uris
}

// runBeside runs a command while the disks are served. The variables are those
// that nbdkit sets.
func runBeside(ctx context.Context, a *app, command string, said nbdServing, addr net.Addr) error {
	c := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	tls := ""
	if said.TLS {
		tls = "2" // demanded
	}
	unixsocket, port := "", ""
	if addr.Network() == "unix" {
		unixsocket = addr.String()
	} else if _, p, err := net.SplitHostPort(addr.String()); err == nil {
		port = p
	}
	c.Env = append(os.Environ(), "uri="+said.Exports[0].URI, "uris="+strings.Join(said.uris(), "\n"),
		"unixsocket="+unixsocket, "port="+port, "exportname="+said.Exports[0].Name, "tls="+tls)
	if err := c.Run(); err != nil {
		return fmt.Errorf("the command of --run: %w", err)
	}
	return nil
}
