package vsphere

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// puts gives files of a package.
func puts(names ...string) func(func(context.Context, string, int64, io.Reader) error) error {
	return func(put func(context.Context, string, int64, io.Reader) error) error {
		for _, name := range names {
			if name == "broken" {
				return errSource
			}
			b := content(name)
			if err := put(context.Background(), name, int64(len(b)), bytes.NewReader(b)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestLibrary(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	check(t, s.CreateLibrary(t.Context(), "Golden images"))
	h := open(t, s.URI(""))
	ctx := t.Context()
	check(t, h.Publish(ctx, "Golden images", "app", PublishOptions{Note: "An appliance"}, puts("app.ovf", "data.bin")))
	if err := h.Publish(ctx, "Golden images", "app", PublishOptions{}, puts("app.ovf")); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("again: %v", err)
	}
	read := func(want ...string) {
		t.Helper()
		i, err := h.OpenItem(ctx, "Golden images", "app")
		check(t, err)
		var names []string
		for _, f := range i.Files() {
			names = append(names, f.Name)
			r, err := i.Read(ctx, f.Name)
			check(t, err)
			b, err := io.ReadAll(r)
			check(t, err)
			check(t, r.Close())
			if !bytes.Equal(b, content(f.Name)) || f.Size != int64(len(b)) {
				t.Errorf("%s has %d other bytes, said were %d", f.Name, len(b), f.Size)
			}
		}
		if strings.Join(names, " ") != strings.Join(want, " ") {
			t.Errorf("files %q, want %q", names, want)
		}
		// A session that ended is made anew.
		check(t, i.m.DeleteLibraryItemDownloadSession(ctx, i.session))
		r, err := i.Read(ctx, want[0])
		check(t, err)
		check(t, r.Close())
		check(t, i.Close())
	}
	read("app.ovf", "data.bin")
	check(t, h.Publish(ctx, "Golden images", "app", PublishOptions{Replace: true}, puts("app.ovf", "data.bin")))
	read("app.ovf", "data.bin")

	// What fails leaves no item.
	refuse := func(name string, w http.ResponseWriter, r *http.Request) bool {
		if name != "data.bin" {
			return false
		}
		http.Error(w, "full", http.StatusInsufficientStorage)
		return true
	}
	for name, c := range map[string]struct {
		transfer func(string, http.ResponseWriter, *http.Request) bool
		files    []string
		want     string
	}{
		"refused": {refuse, []string{"new.ovf", "data.bin"}, "507"},
		"source":  {nil, []string{"new.ovf", "broken"}, errSource.Error()},
	} {
		s.Transfer = c.transfer
		err := h.Publish(ctx, "Golden images", "new", PublishOptions{}, puts(c.files...))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "/data/") {
			t.Errorf("%s: %v", name, err)
		}
		s.Transfer = nil
		if _, err := h.OpenItem(ctx, "Golden images", "new"); !errors.Is(err, hypervisor.ErrNotFound) {
			t.Errorf("%s: the item: %v", name, err)
		}
	}
	for _, c := range [][2]string{{"none", "app"}, {"Golden images", "none"}} {
		if _, err := h.OpenItem(ctx, c[0], c[1]); !errors.Is(err, hypervisor.ErrNotFound) {
			t.Errorf("%s: %v", path.Join(c[0], c[1]), err)
		}
	}
	for _, bad := range []string{"vsphere://h/library", "vsphere://h", "vsphere://h/a/b/c", "vsphere://u:p@h/a/b"} {
		if _, _, _, err := SplitLibrary(bad); err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	uri, library, item, err := SplitLibrary("vsphere://u@h:1/Golden%20images/a%2fb?thumbprint=" + s.Thumbprint)
	if err == nil {
		t.Errorf("%s, %s, %s", uri, library, item)
	}
	if uri, library, item, err = SplitLibrary("vi://u@h:1/Golden%20images/app?thumbprint=" + s.Thumbprint); err != nil ||
		uri != "vsphere://u@h:1?thumbprint="+s.Thumbprint || library != "Golden images" || item != "app" {
		t.Errorf("%s, %s, %s, %v", uri, library, item, err)
	}
}

func TestLibraryESX(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{ESX: true})
	if _, err := open(t, s.URI("")).OpenItem(t.Context(), "a", "b"); !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), "content libraries") {
		t.Errorf("%v", err)
	}
}
