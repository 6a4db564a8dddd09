package stream_test

import (
	"context"
	"fmt"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/cache"
	"github.com/ovation-project/ovation/appliance/stream"
)

// Read the first sector of a disk that lies on a web server, and then let the
// rest come.
func Example() {
	ctx := context.Background()
	pkg, err := appliance.Open(ctx, "https://example.org/appliance.ova", appliance.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pkg.Close()
	s := stream.New(ctx, pkg, stream.Options{
		Cache:  cache.Open("/var/cache/ovation"),
		Failed: func(err error) { fmt.Println("what was read is not to be relied on:", err) },
	})
	defer s.Close()
	img, err := s.Disk(ctx, "vmdisk1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer img.Close()
	sector := make([]byte, 512)
	if _, err := img.ReadAt(sector, 0); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Fill(ctx))
}
