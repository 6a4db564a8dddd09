package testvsphere

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vapi/rest"
)

// CreateLibrary makes a local content library.
func (s *Server) CreateLibrary(ctx context.Context, name string) error {
	c, err := s.Client(ctx)
	if err != nil {
		return err
	}
	r := rest.NewClient(c)
	if err := r.Login(ctx, url.UserPassword(User, Password)); err != nil {
		return err
	}
	store := s.Model.Map().Any("Datastore").Reference()
	_, err = library.NewManager(r).CreateLibrary(ctx, library.Library{Name: name, Type: "LOCAL", Storage: []library.StorageBacking{{DatastoreID: store.Value, Type: "DATASTORE"}}})
	return errors.Join(err, r.Logout(ctx), session.NewManager(c).Logout(ctx))
}

// publish keeps a file of a library's item as it is uploaded: the simulator
// makes another VMDK of a VMDK.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if s.Transfer != nil && s.Transfer(path.Base(r.URL.Path), w, r) {
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	s.proxy.ServeHTTP(w, r)
	// The file is the one that was written last.
	newest := ""
	for _, at := range s.libraryFiles("*", path.Base(r.URL.Path)) {
		if newest == "" || younger(at, newest) {
			newest = at
		}
	}
	if newest != "" {
		_ = os.WriteFile(newest, text, 0o600)
	}
}

// updateSession begins the paths of sessions in which items get files.
const updateSession = "/rest/com/vmware/content/library/item/update-session/id:"

// update answers for sessions that are complete. The simulator ends those in a
// goroutine of its own, without the lock under which it tells their state: to
// ask it is a data race of the simulator's. Where files were pushed, as here, it
// has no more to do by then.
func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	at := r.URL.Path
	s.mu.Lock()
	complete := s.complete[at]
	s.mu.Unlock()
	if complete && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"value": map[string]any{"id": strings.TrimPrefix(at, updateSession), "state": "DONE"}})
		return
	}
	s.proxy.ServeHTTP(w, r)
	if r.URL.Query().Get("~action") == "complete" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.complete == nil {
			s.complete = map[string]bool{}
		}
		s.complete[at] = true
	}
}

func younger(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && x.ModTime().After(y.ModTime())
}

// libraryFiles are the files of a name in items.
func (s *Server) libraryFiles(item, name string) (all []string) {
	for _, e := range s.Model.Map().All("Datastore") {
		found, _ := filepath.Glob(filepath.Join(e.(*simulator.Datastore).Info.GetDatastoreInfo().Url, "contentlib-*", item, name))
		all = append(all, found...)
	}
	return all
}

// outside has what the simulator says of where files are lead to the server in
// front, and what it says of their sizes be those of what it keeps.
func (s *Server) outside(r *http.Response) error {
	if !strings.HasPrefix(r.Request.URL.Path, "/rest/com/vmware/content/") {
		return nil
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	text = bytes.ReplaceAll(text, []byte(s.inner.String()), []byte(s.front.URL))
	if item := r.Request.URL.Query().Get("library_item_id"); item != "" {
		text = s.sizes(item, text)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	r.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

func (s *Server) sizes(item string, text []byte) []byte {
	var list struct {
		Value []map[string]any `json:"value"`
	}
	if json.Unmarshal(text, &list) != nil {
		return text
	}
	for _, f := range list.Value {
		name, _ := f["name"].(string)
		for _, at := range s.libraryFiles(item, name) {
			if st, err := os.Stat(at); err == nil {
				f["size"] = st.Size()
			}
		}
	}
	if out, err := json.Marshal(list); err == nil {
		return out
	}
	return text
}
