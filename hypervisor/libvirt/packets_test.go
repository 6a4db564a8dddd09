package libvirt

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

// TestStreamBeforeAnswer has a daemon whose data overtakes the answer to the call
// that opened the stream: libvirt's sends the two from different threads.
func TestStreamBeforeAnswer(t *testing.T) {
	ours, theirs := net.Pipe()
	s := newSplitter(ours)
	defer s.Close()
	defer theirs.Close()
	daemon := make(chan error, 1)
	go func() {
		head := make([]byte, lengthSize+headerSize)
		if _, err := io.ReadFull(theirs, head); err != nil {
			daemon <- err
			return
		}
		for _, p := range []struct {
			kind, status uint32
			payload      []byte
		}{
			{typeStream, statusContinue, []byte("early")},
			{typeStreamHole, statusContinue, []byte{0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0}},
			{1, statusOK, nil},
			{typeStream, statusContinue, []byte("late")},
			{typeStream, statusContinue, nil},
		} {
			b := append([]byte(nil), head...)
			binary.BigEndian.PutUint32(b, uint32(len(b)+len(p.payload)))
			binary.BigEndian.PutUint32(b[16:], p.kind)
			binary.BigEndian.PutUint32(b[24:], p.status)
			if _, err := theirs.Write(append(b, p.payload...)); err != nil {
				daemon <- err
				return
			}
		}
		daemon <- nil
	}()
	st, err := s.open(t.Context(), procStorageVolumeDownload, nil, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for {
		p, err := st.next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for range p.hole {
			got += "."
		}
		got += string(p.data)
	}
	if want := "early.......late"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := <-daemon; err != nil {
		t.Error(err)
	}
}
