package term

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows how far long work is: bars on a terminal, a line now and then
// elsewhere. A nil Progress shows nothing, and so do its tasks.
type Progress struct {
	bars *mpb.Progress

	mu    sync.Mutex // guards w
	w     io.Writer
	every time.Duration
}

// NewProgress makes a Progress on p: bars where p is a terminal, else a plain
// line a task at most every ten seconds, and one when it ends.
func NewProgress(p *Printer) *Progress {
	if p.tty {
		return &Progress{bars: mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(min(40, max(10, p.width/3))), mpb.WithRefreshRate(120*time.Millisecond))}
	}
	return &Progress{w: p.w, every: 10 * time.Second}
}

// Task is one piece of long work, counted in bytes. All its methods are safe
// for concurrent use and on a nil Task.
type Task struct {
	owner *Progress
	name  string
	total int64
	begun time.Time

	bar  *mpb.Bar
	done atomic.Int64
	next atomic.Int64 // when the next plain line is due, as UnixNano
	once sync.Once
}

// Track begins a task of total bytes; total below 1 is not known.
func (p *Progress) Track(name string, total int64) *Task {
	if p == nil {
		return nil
	}
	t := &Task{owner: p, name: Clean(name), total: total, begun: time.Now()}
	t.next.Store(t.begun.Add(p.every).UnixNano())
	if p.bars != nil {
		after := []decor.Decorator{
			decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace),
			decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_MMSS, decor.WCSyncSpace), "done"),
		}
		if total < 1 {
			after = []decor.Decorator{
				decor.CurrentKibiByte("% .1f", decor.WCSyncSpace),
				decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace),
			}
		}
		t.bar = p.bars.New(max(total, 0), mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
			mpb.PrependDecorators(decor.Name(t.name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(after...))
	}
	return t
}

// Add counts n more bytes.
func (t *Task) Add(n int64) {
	if t == nil {
		return
	}
	done := t.done.Add(n)
	if t.bar != nil {
		t.bar.SetCurrent(done)
		return
	}
	due := t.next.Load()
	if now := time.Now(); now.UnixNano() >= due && t.next.CompareAndSwap(due, now.Add(t.owner.every).UnixNano()) {
		t.owner.line(t.describe())
	}
}

// Set says that n bytes are done in all.
func (t *Task) Set(n int64) {
	if t != nil {
		t.Add(n - t.done.Load())
	}
}

// Done ends the task, complete where err is nil. Calling it again does
// nothing.
func (t *Task) Done(err error) {
	if t == nil {
		return
	}
	t.once.Do(func() {
		switch {
		case t.bar != nil && err == nil:
			t.bar.SetTotal(t.done.Load(), true)
		case t.bar != nil:
			t.bar.Abort(false)
		case err != nil:
			t.owner.line(t.describe() + ", stopped")
		default:
			t.owner.line(fmt.Sprintf("%s: %s in %s", t.name, Size(t.done.Load()), time.Since(t.begun).Round(10*time.Millisecond)))
		}
	})
}

func (t *Task) describe() string {
	done := t.done.Load()
	rate := float64(done) / max(time.Since(t.begun).Seconds(), 1e-3)
	if t.total < 1 {
		return fmt.Sprintf("%s: %s, %s/s", t.name, Size(done), Size(int64(rate)))
	}
	left := "?"
	if rate > 0 {
		left = time.Duration(float64(max(0, t.total-done)) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s: %d%%, %s of %s, %s/s, %s left", t.name, int(float64(done)/float64(t.total)*100), Size(done), Size(t.total), Size(int64(rate)), left)
}

func (p *Progress) line(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, s)
}

// Wait draws the bars for the last time. Tasks that have not ended are left as
// they are.
func (p *Progress) Wait() {
	if p != nil && p.bars != nil {
		p.bars.Shutdown()
	}
}
