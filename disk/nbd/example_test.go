package nbd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovation-project/ovation/disk/nbd"
)

func Example() {
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	l, err := nbd.Listen(ctx, "unix:"+filepath.Join(dir, "socket"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// Any disk.Image will do; here a few bytes.
	disk := strings.NewReader("the bytes of a disk")
	s := &nbd.Server{Exports: []nbd.Export{{Name: "system", Image: disk}}}
	uri := nbd.URI(l.Addr(), "system", false)
	fmt.Println(strings.Replace(uri, dir, "/tmp", 1))
	stop() // another goroutine would, or a signal
	fmt.Println(s.Serve(ctx, l))
	// Output:
	// nbd+unix:///system?socket=/tmp/socket
	// <nil>
}
