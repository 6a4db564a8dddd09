package lazy_test

import (
	"context"
	"fmt"
	"os"

	"github.com/ovation-project/ovation/appliance/cache"
	"github.com/ovation-project/ovation/disk/lazy"
)

// far is a file that lies far away.
type far string

func (f far) Size() int64 { return int64(len(f)) }

func (f far) Fetch(_ context.Context, b []byte, off int64) error {
	fmt.Println("fetching", len(b), "bytes at", off)
	copy(b, f[off:])
	return nil
}

func Example() {
	src := far("this is far away, and is read as if it were here" + string(make([]byte, 2000)))
	store, err := cache.Temporary(os.TempDir(), cache.File{Size: src.Size(), Block: 512})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	f, err := lazy.New(context.Background(), src, store, lazy.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	for range 2 {
		b := make([]byte, 4)
		_, err = f.ReadAt(b, 12)
		fmt.Printf("%s %v\n", b, err)
	}
	// Output:
	// fetching 512 bytes at 0
	// away <nil>
	// away <nil>
}
