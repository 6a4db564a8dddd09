package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vapi/rest"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/redact"
)

// Content libraries are spoken to by vCenter's other API, which wants a session
// of its own.

// libraries logs in there.
func (h *Host) libraries(ctx context.Context) (*library.Manager, *rest.Client, error) {
	if !h.vCenter() {
		return nil, nil, fmt.Errorf("%w: %s: a single ESXi host has no content libraries", hypervisor.ErrUnavailable, h.target)
	}
	c := rest.NewClient(h.client)
	h.login.Lock()
	credential := h.credential
	h.login.Unlock()
	if err := c.Login(ctx, url.UserPassword(credential.User, credential.Password)); err != nil {
		return nil, nil, h.unavailable(err)
	}
	return library.NewManager(c), c, nil
}

// SplitLibrary cuts a locator of a library's item, vsphere://HOST/LIBRARY/ITEM,
// into the URI of its host and the two names.
func SplitLibrary(locator string) (uri, name, item string, err error) {
	bad := func() (string, string, string, error) {
		return "", "", "", fmt.Errorf("%q: an item of a content library is vsphere://HOST/LIBRARY/ITEM", redact.Host(locator))
	}
	t, err := parseURI(locator)
	if err != nil {
		return "", "", "", err
	}
	name, item, ok := strings.Cut(t.path, "/")
	if !ok || name == "" || item == "" || strings.Contains(item, "/") {
		return bad()
	}
	t.path = ""
	return t.text(true), name, item, nil
}

// Shown is a locator by which the same is found again, without what is secret.
func Shown(locator string) string {
	t, err := parseURI(locator)
	if err != nil {
		return redact.Host(locator)
	}
	return t.text(true)
}

// libraryOf finds a library by its name.
func (h *Host) libraryOf(ctx context.Context, m *library.Manager, name string) (*library.Library, error) {
	all, err := m.GetLibraries(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: content libraries: %w", h.target, known(err))
	}
	var names []string
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
		names = append(names, all[i].Name)
	}
	return nil, fmt.Errorf("%s: content library %s: %w; there are %s", h.target, name, hypervisor.ErrNotFound, list(names))
}

func (h *Host) itemOf(ctx context.Context, m *library.Manager, l *library.Library, name string) (*library.Item, error) {
	all, err := m.GetLibraryItems(ctx, l.ID)
	if err != nil {
		return nil, fmt.Errorf("%s: content library %s: %w", h.target, l.Name, known(err))
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("%s: content library %s: item %s: %w", h.target, l.Name, name, hypervisor.ErrNotFound)
}

// Item is an item of a content library, whose files are read.
type Item struct {
	h     *Host
	m     *library.Manager
	c     *rest.Client
	id    string
	files []library.File

	mu      sync.Mutex
	session string // of downloading
}

// ItemFile is a file of an item.
type ItemFile struct {
	Name string
	// Size is in bytes, -1 where it is not known.
	Size int64
}

// OpenItem opens an item of a content library. Closing it does not close the
// host.
func (h *Host) OpenItem(ctx context.Context, libraryName, item string) (*Item, error) {
	m, c, err := h.libraries(ctx)
	if err != nil {
		return nil, err
	}
	x := &Item{h: h, m: m, c: c}
	l, err := h.libraryOf(ctx, m, libraryName)
	if err == nil {
		var i *library.Item
		if i, err = h.itemOf(ctx, m, l, item); err == nil {
			x.id = i.ID
			x.files, err = m.ListLibraryItemFiles(ctx, i.ID)
		}
	}
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

// Files are the item's. Of two of one name the later counts.
func (x *Item) Files() []ItemFile {
	var out []ItemFile
	for _, f := range x.files {
		n := int64(-1)
		if f.Size != nil {
			n = *f.Size
		}
		out = slices.DeleteFunc(out, func(o ItemFile) bool { return o.Name == f.Name })
		out = append(out, ItemFile{f.Name, n})
	}
	slices.SortFunc(out, func(a, b ItemFile) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// How often a host is asked whether it has a file ready, and for how long.
const (
	preparePause = 200 * time.Millisecond
	prepareLimit = 10 * time.Minute
)

// Read reads a file from its start.
func (x *Item) Read(ctx context.Context, name string) (io.ReadCloser, error) {
	at, err := x.prepare(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, known(err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, redact.Cause(err))
	}
	res, err := x.h.transfer(x.c, req)
	if err != nil {
		return nil, fmt.Errorf("%s: from %s: %w", name, at.Host, reachable(redact.Cause(err), at))
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, fmt.Errorf("%s: from %s: the host answers %s", name, at.Host, res.Status)
	}
	return res.Body, nil
}

// prepare has the host make a file ready, and gives where it is.
func (x *Item) prepare(ctx context.Context, name string) (*url.URL, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.session != "" {
		// One that has not been used for long has ended.
		if err := x.m.KeepAliveLibraryItemDownloadSession(ctx, x.session); err != nil {
			x.session = ""
		}
	}
	if x.session == "" {
		id, err := x.m.CreateLibraryItemDownloadSession(ctx, library.Session{LibraryItemID: x.id})
		if err != nil {
			return nil, err
		}
		x.session = id
	}
	f, err := x.m.PrepareLibraryItemDownloadSessionFile(ctx, x.session, name)
	limit := time.After(prepareLimit)
	for err == nil && f.Status != "PREPARED" {
		if f.Status == "ERROR" {
			return nil, fmt.Errorf("the host can't give it: %w", f.ErrorMessage)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit:
			return nil, fmt.Errorf("the host did not have it ready within %v", prepareLimit)
		case <-time.After(preparePause):
		}
		f, err = x.m.GetLibraryItemDownloadSessionFile(ctx, x.session, name)
	}
	if err != nil {
		return nil, err
	}
	return x.h.endpoint(f.DownloadEndpoint)
}

// endpoint is where a file is transferred.
func (h *Host) endpoint(e *library.TransferEndpoint) (*url.URL, error) {
	if e == nil {
		return nil, errors.New("the host does not say where it is")
	}
	u, err := url.Parse(e.URI)
	if err != nil || u.Host == "" {
		return nil, errors.New("the host gives an address that is none")
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("the host wants the file by %s, which is not encrypted", u.Scheme)
	}
	if pin, err := parseThumbprint(e.SSLCertificateThumbprint); err == nil {
		h.dialer.pin(u.Host, pin)
	}
	return u, nil
}

// transfer carries out a request for a file. The session is known to the vCenter
// and to nobody else.
func (h *Host) transfer(c *rest.Client, req *http.Request) (*http.Response, error) {
	if withPort(req.URL.Host) == withPort(h.target.address()) {
		req.Header.Set("vmware-api-session-id", c.SessionID())
	}
	return c.Client.Client.Do(req)
}

// Close ends the reading.
func (x *Item) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), logoutLimit)
	defer cancel()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.session != "" {
		// One that nobody ends ends by itself.
		_ = x.m.DeleteLibraryItemDownloadSession(ctx, x.session)
		x.session = ""
	}
	_ = x.c.Logout(ctx)
	return nil
}

// PublishOptions say how an item is published.
type PublishOptions struct {
	// Replace replaces the files of an item that is there; without it that is
	// hypervisor.ErrExists.
	Replace bool
	// Note is the item's description.
	Note string
}

// Publish makes an item of a content library, or gives it other files. files is
// called once, and calls put for each file in its order; the host has the new
// files when all were put, or those that it had. An item that was made and can't
// be filled is removed again.
func (h *Host) Publish(ctx context.Context, libraryName, item string, opt PublishOptions, files func(put func(ctx context.Context, name string, size int64, r io.Reader) error) error) (err error) {
	m, c, err := h.libraries(ctx)
	if err != nil {
		return err
	}
	end := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	}
	defer func() {
		bye, cancel := end()
		defer cancel()
		_ = c.Logout(bye)
	}()
	l, err := h.libraryOf(ctx, m, libraryName)
	if err != nil {
		return err
	}
	if l.Type != "LOCAL" {
		return fmt.Errorf("%s: content library %s is %s, and only a local one can be published to", h.target, libraryName, strings.ToLower(l.Type))
	}
	there, err := h.itemOf(ctx, m, l, item)
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return err
	}
	if there != nil && !opt.Replace {
		return fmt.Errorf("%s: content library %s: item %s: %w", h.target, libraryName, item, hypervisor.ErrExists)
	}
	p := &publishing{h: h, m: m, c: c, made: map[string]bool{}}
	if there == nil {
		note := opt.Note
		if p.item, err = m.CreateLibraryItem(context.WithoutCancel(ctx), library.Item{Name: item, LibraryID: l.ID, Type: library.ItemTypeOVF, Description: &note}); err != nil {
			return fmt.Errorf("%s: content library %s: item %s: %w", h.target, libraryName, item, known(err))
		}
		defer func() {
			if err != nil {
				undo, cancel := end()
				defer cancel()
				if left := m.DeleteLibraryItem(undo, &library.Item{ID: p.item, Type: library.ItemTypeOVF}); left != nil {
					err = fmt.Errorf("%w; and the item %s, which was made for it, stays: %w", err, item, known(left))
				}
			}
		}()
	} else {
		p.item = there.ID
	}
	if err := p.run(ctx, end, files); err != nil {
		return fmt.Errorf("%s: content library %s: item %s: %w", h.target, libraryName, item, err)
	}
	return nil
}

// publishing is an update of an item that goes on.
type publishing struct {
	h       *Host
	m       *library.Manager
	c       *rest.Client
	item    string
	session string
	made    map[string]bool
}

func (p *publishing) run(ctx context.Context, end func() (context.Context, context.CancelFunc), files func(func(context.Context, string, int64, io.Reader) error) error) (err error) {
	had, err := p.m.ListLibraryItemFiles(ctx, p.item)
	if err != nil {
		return known(err)
	}
	if p.session, err = p.m.CreateLibraryItemUpdateSession(context.WithoutCancel(ctx), library.Session{LibraryItemID: p.item}); err != nil {
		return known(err)
	}
	complete := false
	defer func() {
		bye, cancel := end()
		defer cancel()
		if !complete {
			_ = p.m.FailLibraryItemUpdateSession(bye, p.session)
		}
		_ = p.m.DeleteLibraryItemUpdateSession(bye, p.session)
	}()
	keeping, kept := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		tick := time.NewTicker(sessionPause)
		defer tick.Stop()
		for {
			select {
			case <-keeping.Done():
				return
			case <-tick.C:
				_ = p.m.KeepAliveLibraryItemUpdateSession(keeping, p.session)
			}
		}
	})
	err = files(p.put)
	kept()
	keeper.Wait()
	if err != nil {
		return err
	}
	for _, f := range had {
		if !p.made[f.Name] {
			if err := p.m.RemoveLibraryItemUpdateSessionFile(ctx, p.session, f.Name); err != nil {
				return fmt.Errorf("%s, which the item had before: %w", f.Name, known(err))
			}
		}
	}
	if err := p.m.CompleteLibraryItemUpdateSession(ctx, p.session); err != nil {
		return known(err)
	}
	// From here on the host does what was asked for, whatever becomes of us.
	complete = true
	if err := p.m.WaitOnLibraryItemUpdateSession(ctx, p.session, preparePause, nil); err != nil {
		complete = false
		return fmt.Errorf("the host takes the files: %w", known(err))
	}
	return nil
}

// sessionPause is well below the minutes after which a session ends.
const sessionPause = 30 * time.Second

// put sends one file.
func (p *publishing) put(ctx context.Context, name string, size int64, r io.Reader) error {
	fail := func(err error) error { return fmt.Errorf("%s: %w", name, err) }
	f, err := p.m.AddLibraryItemFile(ctx, p.session, library.UpdateFile{Name: name, Size: size, SourceType: "PUSH"})
	if err != nil {
		return fail(known(err))
	}
	to, err := p.h.endpoint(f.UploadEndpoint)
	if err != nil {
		return fail(err)
	}
	body := &counted{ReadCloser: io.NopCloser(r), tell: func(int) {}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to.String(), body)
	if err != nil {
		return fail(redact.Cause(err))
	}
	if req.ContentLength = size; size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := p.h.transfer(p.c, req)
	if body.failed != nil {
		return fail(body.failed)
	}
	if err != nil {
		return fail(fmt.Errorf("to %s: %w", to.Host, reachable(redact.Cause(err), to)))
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fail(fmt.Errorf("to %s: the host answers %s", to.Host, res.Status))
	}
	p.made[name] = true
	return nil
}
