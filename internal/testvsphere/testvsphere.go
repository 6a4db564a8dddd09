// Package testvsphere starts govmomi's simulator of a vCenter Server or of an
// ESXi host for tests.
//
// In front of it stands a TLS server of this package. It keeps what is uploaded
// in the simulator's datastores and content libraries, where the simulator itself
// only counts the bytes of disks or makes others of them, so that an export gives
// what was imported; it answers ExportVm, which
// the simulator lacks, by the simulator's ExportSnapshot; and it lets tests get
// in between.
package testvsphere

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	_ "github.com/vmware/govmomi/pbm/simulator" // storage policies
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // content libraries
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// User and Password are what the simulator accepts.
const (
	User     = "tester@vsphere.local"
	Password = "swordfish-vsphere"
)

// Options say what is simulated.
type Options struct {
	// ESX is a single host, else it is a vCenter with one cluster of three
	// hosts and a host by itself.
	ESX bool
	// Model changes what is simulated before it is made.
	Model func(*simulator.Model)
}

// Server is a simulator.
type Server struct {
	Model *simulator.Model
	// Address is host:port, Thumbprint the certificate's SHA-256.
	Address, Thumbprint string
	// CAFile holds the certificate in PEM.
	CAFile string

	// Call, where set, gets each SOAP request with the name of its method
	// before the simulator does; true is that it answered.
	Call func(method string, w http.ResponseWriter, r *http.Request) bool
	// Transfer, where set, gets each upload (POST, PUT) and download (GET) of a
	// lease before; true is that it answered.
	Transfer func(name string, w http.ResponseWriter, r *http.Request) bool

	inner     *url.URL
	simulator *simulator.Server
	front     *httptest.Server
	proxy     *httputil.ReverseProxy
	mu        sync.Mutex
	calls     []string
	// complete are the paths of update sessions that are.
	complete map[string]bool
}

// Start starts a simulator that runs until the test ends. The environment has
// its user and password.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	t.Setenv("OVATION_VSPHERE_USER", User)
	t.Setenv("OVATION_VSPHERE_PASSWORD", Password)
	return s
}

// New starts a simulator that runs until it is closed.
func New(opt Options) (_ *Server, err error) {
	s := &Server{Model: simulator.VPX()}
	if opt.ESX {
		s.Model = simulator.ESX()
	}
	s.Model.Machine = 0
	if opt.Model != nil {
		opt.Model(s.Model)
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.Model.Create(); err != nil {
		return nil, err
	}
	s.Model.Service.TLS = nil
	s.Model.Service.RegisterEndpoints = true
	s.Model.Service.Listen = &url.URL{User: url.UserPassword(User, Password)}
	s.simulator = s.Model.Service.NewServer()
	s.inner = &url.URL{Scheme: s.simulator.URL.Scheme, Host: s.simulator.URL.Host}
	s.proxy = httputil.NewSingleHostReverseProxy(s.inner)
	s.proxy.ModifyResponse = s.outside
	quiet := log.New(io.Discard, "", 0)
	s.proxy.ErrorLog = quiet
	s.front = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.front.Config.ErrorLog = quiet
	s.front.StartTLS()
	s.Address = s.front.Listener.Addr().String()
	sum := sha256.Sum256(s.front.Certificate().Raw)
	s.Thumbprint = hex.EncodeToString(sum[:])
	f, err := os.CreateTemp("", "testvsphere-ca-*.pem")
	if err != nil {
		return nil, err
	}
	s.CAFile = f.Name()
	err = pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: s.front.Certificate().Raw})
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	// Leases lead to the server in front.
	s.Model.Map().OptionManager().UpdateOptions(&types.UpdateOptions{ChangedValue: []types.BaseOptionValue{
		&types.OptionValue{Key: "vcsim.server.url", Value: s.front.URL}}})
	return s, nil
}

// Close ends the simulator.
func (s *Server) Close() {
	if s.front != nil {
		s.front.CloseClientConnections()
		s.front.Close()
	}
	if s.simulator != nil {
		s.simulator.Close()
	}
	s.Model.Remove()
	if s.CAFile != "" {
		_ = os.Remove(s.CAFile)
	}
}

// URI is that of a place in the inventory, with parameters such as pool=C0.
func (s *Server) URI(place string, parameters ...string) string {
	u := "vsphere://" + s.Address
	if place != "" {
		u += "/" + place
	}
	return u + "?" + strings.Join(append([]string{"thumbprint=" + s.Thumbprint}, parameters...), "&")
}

// Calls are the SOAP methods that were called so far.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// Client is a session of the test's own.
func (s *Server) Client(ctx context.Context) (*vim25.Client, error) {
	c, err := vim25.NewClient(ctx, soap.NewClient(&url.URL{Scheme: "http", Host: s.inner.Host, Path: vim25.Path}, false))
	if err != nil {
		return nil, err
	}
	return c, session.NewManager(c).Login(ctx, url.UserPassword(User, Password))
}

// EndSessions ends all sessions that there are.
func (s *Server) EndSessions(ctx context.Context) error {
	c, err := s.Client(ctx)
	if err != nil {
		return err
	}
	m := session.NewManager(c)
	var all mo.SessionManager
	if err := property.DefaultCollector(c).RetrieveOne(ctx, m.Reference(), []string{"sessionList", "currentSession"}, &all); err != nil {
		return err
	}
	var keys []string
	for _, x := range all.SessionList {
		if all.CurrentSession == nil || x.Key != all.CurrentSession.Key {
			keys = append(keys, x.Key)
		}
	}
	if err := m.TerminateSession(ctx, keys); err != nil {
		return err
	}
	return m.Logout(ctx)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/nfc/"):
		s.transfer(w, r)
	case r.URL.Path == vim25.Path && r.Method == http.MethodPost:
		s.call(w, r)
	case strings.HasPrefix(r.URL.Path, updateSession):
		s.update(w, r)
	case strings.HasPrefix(r.URL.Path, "/rest/com/vmware/cis/data/") && r.Method == http.MethodPut:
		s.publish(w, r)
	default:
		s.proxy.ServeHTTP(w, r)
	}
}

// body is what of a SOAP request says which method it is of.
type body struct {
	Body struct {
		Call struct {
			XMLName xml.Name
			This    struct {
				Type  string `xml:"type,attr"`
				Value string `xml:",chardata"`
			} `xml:"_this"`
		} `xml:",any"`
	} `xml:"Body"`
}

func (s *Server) call(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	var x body
	if err := xml.Unmarshal(text, &x); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	method := x.Body.Call.XMLName.Local
	s.mu.Lock()
	s.calls = append(s.calls, method)
	s.mu.Unlock()
	if s.Call != nil && s.Call(method, w, r) {
		return
	}
	if method == "ExportVm" {
		s.exportVM(w, r, types.ManagedObjectReference{Type: "VirtualMachine", Value: x.Body.Call.This.Value})
		return
	}
	s.proxy.ServeHTTP(w, r)
}

// Fault answers a SOAP request with a fault, such as "NotAuthenticated".
func Fault(w http.ResponseWriter, kind, message string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault>
<faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail><%sFault xmlns="urn:vim25" xsi:type="%s"></%sFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`,
		message, kind, kind, kind)
}

// as is a client with the session of a request.
func (s *Server) as(r *http.Request) (*vim25.Client, error) {
	u := &url.URL{Scheme: "http", Host: s.inner.Host, Path: vim25.Path}
	sc := soap.NewClient(u, false)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	var cookies []*http.Cookie
	for _, c := range r.Cookies() {
		cookies = append(cookies, &http.Cookie{Name: c.Name, Value: c.Value, Path: "/"})
	}
	jar.SetCookies(u, cookies)
	sc.Jar = jar
	return vim25.NewClient(r.Context(), sc)
}

// exportVM answers ExportVm.
func (s *Server) exportVM(w http.ResponseWriter, r *http.Request, vm types.ManagedObjectReference) {
	lease, err := s.leaseOf(r, vm)
	if err != nil {
		Fault(w, "InvalidState", err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<ExportVmResponse xmlns="urn:vim25"><returnval type="HttpNfcLease">%s</returnval></ExportVmResponse></soapenv:Body></soapenv:Envelope>`, lease)
}

func (s *Server) leaseOf(r *http.Request, vm types.ManagedObjectReference) (string, error) {
	c, err := s.as(r)
	if err != nil {
		return "", err
	}
	m := object.NewVirtualMachine(c, vm)
	if state, err := m.PowerState(r.Context()); err != nil || state != types.VirtualMachinePowerStatePoweredOff {
		return "", errors.Join(err, fmt.Errorf("the machine is %s", state))
	}
	task, err := m.CreateSnapshot(r.Context(), "testvsphere", "", false, false)
	if err != nil {
		return "", err
	}
	info, err := task.WaitForResult(r.Context())
	if err != nil {
		return "", err
	}
	snapshot := info.Result.(types.ManagedObjectReference)
	lease, err := m.ExportSnapshot(r.Context(), &snapshot)
	if err != nil {
		return "", err
	}
	task, err = m.RemoveSnapshot(r.Context(), snapshot.Value, false, nil)
	if err == nil {
		err = task.Wait(r.Context())
	}
	return lease.Reference().Value, err
}

// transfer keeps uploads where the simulator's disk lies.
func (s *Server) transfer(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if s.Transfer != nil && s.Transfer(name, w, r) {
		return
	}
	if r.Method == http.MethodGet {
		s.proxy.ServeHTTP(w, r)
		return
	}
	at, err := s.fileOf(r, path.Base(path.Dir(r.URL.Path)), name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	f, err := os.Create(at)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(io.TeeReader(r.Body, f))
	s.proxy.ServeHTTP(w, r)
	_ = f.Close()
}

// fileOf is the file behind a device of a lease.
func (s *Server) fileOf(r *http.Request, lease, name string) (string, error) {
	c, err := s.as(r)
	if err != nil {
		return "", err
	}
	var l mo.HttpNfcLease
	pc := property.DefaultCollector(c)
	if err := pc.RetrieveOne(r.Context(), types.ManagedObjectReference{Type: "HttpNfcLease", Value: lease}, []string{"info"}, &l); err != nil {
		return "", err
	}
	var vm mo.VirtualMachine
	if err := pc.RetrieveOne(r.Context(), l.Info.Entity, []string{"config.hardware"}, &vm); err != nil {
		return "", err
	}
	for _, d := range vm.Config.Hardware.Device {
		b, ok := d.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !ok {
			continue
		}
		var p object.DatastorePath
		if !p.FromString(b.GetVirtualDeviceFileBackingInfo().FileName) || path.Base(p.Path) != name {
			continue
		}
		return s.DatastoreFile(p.Datastore, p.Path)
	}
	return "", fmt.Errorf("the machine has no device with the file %s", name)
}

// DatastoreFile is where a datastore's file lies in this file system.
func (s *Server) DatastoreFile(datastore, name string) (string, error) {
	for _, e := range s.Model.Map().All("Datastore") {
		if d := e.(*simulator.Datastore); d.Name == datastore {
			return filepath.Join(d.Info.GetDatastoreInfo().Url, filepath.FromSlash(name)), nil
		}
	}
	return "", fmt.Errorf("there is no datastore %s", datastore)
}
