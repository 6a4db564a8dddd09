package cache_test

import (
	"context"
	"fmt"
	"os"

	"github.com/ovation-project/ovation/appliance/cache"
)

func Example() {
	dir, err := os.MkdirTemp("", "cache")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	c := cache.Open(dir)
	e, err := c.Entry(cache.File{
		Content: []string{"manifest", "0123", "disk.vmdk"}, Source: []string{"https://example.org/a.ova", `"v1"`},
		Name: "disk.vmdk", Locator: "https://example.org/a.ova", Size: 10_000, Block: 4096,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := e.WriteAt(make([]byte, 4096), 4096); err == nil {
		e.Add(1)
	}
	fmt.Println(e.Has(0), e.Has(1), e.Close())
	files, err := c.List(context.Background())
	for _, f := range files {
		fmt.Println(f.Name, f.Present, f.Size, f.Verified, err)
	}
	// Output:
	// false true <nil>
	// disk.vmdk 4096 10000 false <nil>
}
