package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/redact"
)

const (
	// defaultParallel is how many files are sent at once.
	defaultParallel = 4
	// transferBuffer is what is given to the system at once, in bytes.
	transferBuffer = 256 << 10
	// undoLimit is how long taking back may take after a failure.
	undoLimit = 2 * time.Minute
	// settleLimit is how long a lease may take to be ready or to fail before it
	// is aborted.
	settleLimit = 5 * time.Second
)

// lease is the host's permission to send or fetch the files of a machine, for as
// long as it is kept alive.
type lease struct {
	*nfc.Lease
	h      *Host
	entity ref
	urls   []types.HttpNfcLeaseDeviceUrl

	total, done atomic.Int64
}

// newLease waits until a lease is ready.
func (h *Host) newLease(ctx context.Context, l *nfc.Lease) (*lease, error) {
	info, err := l.Wait(ctx, nil)
	if err != nil {
		return nil, known(err)
	}
	x := &lease{Lease: l, h: h, entity: info.Entity, urls: info.DeviceUrl}
	for _, u := range x.urls {
		// Hosts that the vCenter manages have certificates that it vouches for.
		at, err := x.address(u)
		if pin, pinErr := parseThumbprint(u.SslThumbprint); err == nil && pinErr == nil {
			h.dialer.pin(at.Host, pin)
		}
	}
	return x, nil
}

// address is where a device's file is sent to or fetched from. A host of "*"
// stands for the one that the client is connected to.
func (l *lease) address(d types.HttpNfcLeaseDeviceUrl) (*url.URL, error) {
	u, err := url.Parse(d.Url)
	if err != nil {
		return nil, errors.New("the host gives an address for the file that is none")
	}
	if u.Hostname() == "*" {
		u.Host = l.h.target.address()
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("the host wants the file by %s, which is not encrypted", u.Scheme)
	}
	return u, nil
}

// keep tells the host again and again how far it is, until ctx ends. What it
// gives is why the lease is not there any more.
func (l *lease) keep(ctx context.Context) error {
	tick := time.NewTicker(l.h.keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		percent := int32(0)
		if total := l.total.Load(); total > 0 {
			percent = int32(min(99, 100*l.done.Load()/total))
		}
		if err := l.Progress(ctx, percent); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the lease of the transfer: %w", l.why(ctx, err))
		}
	}
}

// why is what the host says of a lease that failed, beside an error.
func (l *lease) why(ctx context.Context, err error) error {
	var m mo.HttpNfcLease
	if readErr := l.h.get(ctx, l.Reference(), &m, "state", "error"); readErr == nil && m.Error != nil {
		return fmt.Errorf("%w: the host says: %s", known(err), textOf(*m.Error))
	}
	return known(err)
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	tell func(n int)
	// failed is why reading ended, where that was not the end.
	failed error
}

// Read passes bytes on.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.tell(n)
	if err != nil && err != io.EOF {
		c.failed = err
	}
	return n, err
}

// send sends one file.
func (l *lease) send(ctx context.Context, item types.OvfFileItem, content *hypervisor.ImportContent, tell func(int)) error {
	var to *url.URL
	for _, d := range l.urls {
		if d.ImportKey == item.DeviceId {
			var err error
			if to, err = l.address(d); err != nil {
				return err
			}
		}
	}
	if to == nil {
		return errors.New("the host gives no address to send it to")
	}
	body := &counted{ReadCloser: content.ReadCloser, tell: func(n int) {
		l.done.Add(int64(n))
		tell(n)
	}}
	method := http.MethodPost
	if item.Create {
		method = http.MethodPut
	}
	req, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return redact.Cause(err)
	}
	if req.ContentLength = content.Size; content.Size == 0 {
		req.Body = http.NoBody
	}
	if item.Create {
		req.Header.Set("Overwrite", "t")
	} else {
		req.Header.Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	}
	res, err := l.h.http.Do(req)
	if body.failed != nil {
		// What could not be read is why it was not sent.
		return body.failed
	}
	if err != nil {
		return fmt.Errorf("to %s: %w", to.Host, reachable(redact.Cause(err), to))
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return fmt.Errorf("to %s: the host answers %s", to.Host, res.Status)
	}
	return nil
}

// reachable says what to do about a host that can't be reached.
func reachable(err error, to *url.URL) error {
	var name *net.DNSError
	if errors.As(err, &name) {
		return fmt.Errorf("%w; a vCenter has files sent straight to its hosts: the name %s has to be known here", err, to.Hostname())
	}
	return err
}

// Run makes the machines.
func (i *importing) Run(ctx context.Context, open hypervisor.OpenImportFile, opt hypervisor.ImportOptions) error {
	if err := i.free(ctx); err != nil {
		return err
	}
	r := &run{importing: i, open: open, opt: opt, slots: make(chan struct{}, max(1, cmp.Or(opt.Parallel, defaultParallel))), vms: make([]ref, len(i.systems))}
	if r.opt.Note == nil {
		r.opt.Note = func(string) {}
	}
	err := r.all(ctx)
	if err == nil {
		return nil
	}
	// What ended the import must not end the taking back.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if left := r.undo(undo); left != nil {
		return &hypervisor.ImportLeftError{Err: err, Left: left}
	}
	return err
}

// run is an import that goes on.
type run struct {
	*importing
	open  hypervisor.OpenImportFile
	opt   hypervisor.ImportOptions
	slots chan struct{}

	mu     sync.Mutex
	leases []*nfc.Lease // that are not complete
	vms    []ref        // of the systems
	group  *object.VirtualApp
}

func (r *run) all(ctx context.Context) (err error) {
	if r.plan.Group != "" {
		if r.group, err = r.h.makeGroup(ctx, r.to, r.plan.Group, r.spec.Deployment); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for k := range r.systems {
		wg.Go(func() {
			if err := r.system(ctx, k); err != nil {
				cancel(fmt.Errorf("machine %s: %w", r.systems[k].Name, err))
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r.group == nil {
		return nil
	}
	if err := r.h.orderGroup(ctx, r.group.Reference(), r.systems, r.vms); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The machines' records have it, too.
		r.opt.Note(fmt.Sprintf("vApp %s: the order in which it starts could not be set: %v; this program starts its machines in their order", r.plan.Group, err))
	}
	return nil
}

// system makes one machine.
func (r *run) system(ctx context.Context, k int) error {
	s := &r.systems[k]
	pool, folder := object.NewResourcePool(r.h.client, r.to.pool), object.NewFolder(r.h.client, r.to.folder)
	config := *s.config
	if r.group != nil {
		// What is in a vApp is in the vApp's folder.
		pool, folder, config.ResPoolEntity = r.group.ResourcePool, nil, nil
	}
	var host *object.HostSystem
	if r.to.host != nil {
		host = object.NewHostSystem(r.h.client, *r.to.host)
	}
	// What is begun has to be known here, also when ctx ends meanwhile.
	begun, err := pool.ImportVApp(context.WithoutCancel(ctx), &config, folder, host)
	if err != nil {
		return fmt.Errorf("the host begins to import: %w", known(err))
	}
	r.mu.Lock()
	r.leases = append(r.leases, begun)
	r.mu.Unlock()
	l, err := r.h.newLease(ctx, begun)
	if err != nil {
		return fmt.Errorf("the host makes the machine: %w", err)
	}
	r.mu.Lock()
	r.vms[k] = l.entity
	r.mu.Unlock()
	for _, f := range s.files {
		l.total.Add(f.Size)
	}
	if err := r.files(ctx, s, l); err != nil {
		return err
	}
	if err := l.Complete(ctx); err != nil {
		return fmt.Errorf("the host ends the import: %w", l.why(ctx, err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, x := range r.leases {
		if x == begun {
			r.leases = append(r.leases[:n:n], r.leases[n+1:]...)
			break
		}
	}
	return nil
}

// files sends a machine's files, several at once, and keeps the lease alive.
func (r *run) files(ctx context.Context, s *importSystem, l *lease) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keeping, kept := context.WithCancel(ctx)
	var keeper, senders sync.WaitGroup
	keeper.Go(func() {
		if err := l.keep(keeping); err != nil {
			cancel(err)
		}
	})
	for _, f := range s.files {
		senders.Go(func() {
			select {
			case r.slots <- struct{}{}:
				defer func() { <-r.slots }()
			case <-ctx.Done():
				return
			}
			if err := r.file(ctx, s, l, f); err != nil {
				cancel(err)
			}
		})
	}
	senders.Wait()
	kept()
	keeper.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (r *run) file(ctx context.Context, s *importSystem, l *lease, f hypervisor.ImportFile) error {
	content, err := r.open(ctx, f)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Href, err)
	}
	defer content.Close()
	var sent atomic.Int64
	err = l.send(ctx, s.items[f.ID], content, func(n int) {
		if at := sent.Add(int64(n)); r.opt.Progress != nil {
			r.opt.Progress(f, at)
		}
	})
	if err != nil && ctx.Err() == nil {
		err = l.why(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("%s: sent %d bytes: %w", f.Href, sent.Load(), err)
	}
	return nil
}

// undo takes everything away again.
func (r *run) undo(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.leases {
		// The host removes what a lease was for that is aborted; what it does
		// not, is removed below. What it is just making it finishes first.
		settled, cancel := context.WithTimeout(ctx, settleLimit)
		if info, err := l.Wait(settled, nil); err == nil {
			r.vms = append(r.vms, info.Entity)
		}
		cancel()
		if err := l.Abort(ctx, nil); err != nil {
			r.h.log.DebugContext(ctx, "a lease could not be aborted", "error", err)
		}
	}
	var errs []error
	for _, vm := range r.vms {
		if vm.Value != "" {
			errs = append(errs, r.h.destroy(ctx, vm))
		}
	}
	// What the host made without our hearing of it has the deployment's record.
	errs = append(errs, r.h.UndoImport(ctx, r.plan, r.spec.Deployment))
	return errors.Join(errs...)
}
