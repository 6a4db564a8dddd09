package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance/serve"
	"github.com/ovation-project/ovation/internal/term"
)

// serveFlags are what serve is told.
type serveFlags struct {
	listen       string
	user         string
	passwordFile string
	bandwidth    string
	tls          tlsFlags
}

func newServeCommand(a *app) *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve DIR",
		Short: "Serve the packages in a folder over HTTP",
		Long: `Serve the packages in a folder, and in folders below it, over HTTP: with ranges,
so that 'ovation run' and the other commands on other machines fetch only what
they need, an index for people at /, and one for programs at /index.json.

Only files of packages are served: nothing outside of the folder, whatever links
there are, and nothing whose name begins with a dot. One line is logged a
request. It serves until it is interrupted.`,
		Example: `  ovation serve appliances
  ovation serve appliances --listen :8080
  ovation serve appliances --listen :8443 --tls-cert server.pem --tls-key server.key --user me --password-file secret
  ovation serve appliances --bandwidth 100Mbit`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.serveFolder(c.Context(), args[0], f) },
	}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8080", "HOST:PORT to serve at; without HOST at all addresses, port 0 is any that is free")
	c.Flags().StringVar(&f.user, "user", "", "let in only who gives this name and the password (basic authentication)")
	c.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password in its first line")
	c.Flags().StringVar(&f.bandwidth, "bandwidth", "", "the most that is sent a second, to all together, such as 100Mbit or 10MiB")
	f.tls.register(c, false)
	return c
}

func (a *app) serveFolder(ctx context.Context, dir string, f serveFlags) (err error) {
	opt := serve.Options{User: f.user}
	if !a.quiet {
		opt.Log = slog.New(slog.NewTextHandler(a.err, nil))
	}
	if a.verbose {
		opt.Log = a.log
	}
	if (f.user == "") != (f.passwordFile == "") {
		return usagef("--user and --password-file go together")
	}
	if f.passwordFile != "" {
		if opt.Password, err = readPassword(f.passwordFile); err != nil {
			return err
		}
	}
	if f.bandwidth != "" {
		if opt.Limit, err = parseRate(f.bandwidth); err != nil {
			return err
		}
	}
	config, err := f.tls.config()
	if err != nil {
		return err
	}
	h, err := serve.New(dir, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", f.listen)
	if err != nil {
		return err
	}
	address, err := serveURL(l.Addr(), config != nil)
	if err == nil {
		if f.user != "" && config == nil {
			a.warn("the password goes over the network as it is: serve by TLS (--tls-cert, --tls-key)")
		}
		if a.json {
			err = a.printJSON(struct {
				APIVersion string `json:"apiVersion"`
				URL        string `json:"url"`
				Address    string `json:"address"`
				Index      string `json:"index"`
			}{"ovation/serve/v1", address, l.Addr().String(), address + "index.json"})
		} else {
			a.out.Printf("%s\n", address)
		}
	}
	if err = errors.Join(err, a.out.Err()); err != nil {
		return errors.Join(err, l.Close())
	}
	return h.Serve(ctx, l, config)
}

// serveURL is the address to give to a client: on this machine, where it is all
// of the machine's.
func serveURL(addr net.Addr, tls bool) (string, error) {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/", nil
}

// readPassword reads the first line of a file.
func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: the first line, which is the password, is empty", path)
	}
	return line, nil
}

// parseRate reads a number of bits or bytes a second, and gives bytes.
func parseRate(s string) (int64, error) {
	units := map[string]float64{"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
	num := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	if unit, ok := units[strings.ToLower(strings.TrimSpace(s[len(num):]))]; ok {
		n, err := strconv.ParseFloat(num, 64)
		if bytes := n * unit / 8; err == nil && bytes >= 1 && bytes < 1e15 {
			return int64(bytes), nil
		}
	} else if n, err := term.ParseSize(s); err == nil && n >= 1 {
		return n, nil
	}
	return 0, usagef("--bandwidth is bits or bytes a second, such as 100Mbit or 10MiB, not %q", s)
}
