package ovf

// Version is a version of the standard, as far as it can be told from a
// descriptor: 1.0 and 1.1 share a namespace, and so do 2.0 and 2.1.
type Version string

// The versions. V1 and V2 are for descriptors that do not say which of the
// namespace's versions they are.
const (
	VersionUnknown Version = ""
	V09            Version = "0.9"
	V1             Version = "1.x"
	V10            Version = "1.0"
	V11            Version = "1.1"
	V2             Version = "2.x"
	V20            Version = "2.0"
	V21            Version = "2.1"
)

// Major is 0, 1 or 2, and -1 where the version is unknown.
func (v Version) Major() int {
	if v == "" {
		return -1
	}
	return int(v[0] - '0')
}

// Message is text for people. Where MsgID is set, it is the key of the same
// text in other languages (ovf:msgid; Strings bundles).
type Message struct {
	Text  string
	MsgID string
}

// Envelope is a whole descriptor.
type Envelope struct {
	Node
	Version Version
	// Lang is the language of the texts that stand in the descriptor
	// itself (xml:lang), "" where it does not say.
	Lang string

	References []*File
	Disks      []*Disk
	// SharedDisks are the disks of SharedDiskSections (2.x); they are also
	// in Disks, with Shared set.
	SharedDisks []*Disk
	Networks    []*Network
	// Options are the deployment options (Configuration elements).
	Options         []*Option
	PlacementGroups []*PlacementGroup
	// Sections are all the envelope's sections in their order, known or
	// not.
	Sections []*Section
	// Content is the virtual system or collection; nil where there is
	// none, which the standard does not allow. Others are those after the
	// first, which it does not allow either.
	Content *Content
	Others  []*Content
	// Bundles are the Strings elements: texts in other languages.
	Bundles []*Bundle
}

// File is a file of the package (References/File).
type File struct {
	Node
	ID, Href string
	// Size is in bytes, -1 where it is not given or not a number.
	Size int64
	// Compression is "gzip", "identity" or "" (none), as it is written.
	Compression string
	// ChunkSize is in bytes, 0 for a file in one piece, -1 where it is not
	// a number. The pieces' names are Href with .000000000, .000000001, ….
	ChunkSize int64
}

// Disk is a virtual disk (DiskSection/Disk).
type Disk struct {
	Node
	ID      string
	FileRef string // the ID of a File, "" for an empty disk
	// Capacity is as written: a number, or a reference ${property}.
	Capacity string
	// CapacityUnits is as written, "" for bytes.
	CapacityUnits string
	// PopulatedSize is in bytes, -1 where it is not given.
	PopulatedSize int64
	Format        string // a URI
	ParentRef     string // the ID of the Disk that this one is a delta of
	Shared        bool
}

// Network is a logical network (NetworkSection/Network).
type Network struct {
	Node
	Name        string
	Description Message
}

// Option is a deployment option (DeploymentOptionSection/Configuration).
type Option struct {
	Node
	ID          string
	Label       Message
	Description Message
	Default     bool
}

// PlacementGroup is a group of virtual systems to be kept together or apart
// (2.x PlacementGroupSection).
type PlacementGroup struct {
	Node
	ID          string
	Policy      string // "affinity", "availability", …
	Description Message
}

// SectionKind is a section's element name, such as "DiskSection"; for 0.9 it
// is taken from xsi:type. For sections that are not OVF's own it is the
// element's name too, so look at Section.Space.
type SectionKind string

// The sections of the standard.
const (
	DiskSection               SectionKind = "DiskSection"
	NetworkSection            SectionKind = "NetworkSection"
	ResourceAllocationSection SectionKind = "ResourceAllocationSection"
	AnnotationSection         SectionKind = "AnnotationSection"
	ProductSection            SectionKind = "ProductSection"
	EulaSection               SectionKind = "EulaSection"
	StartupSection            SectionKind = "StartupSection"
	DeploymentOptionSection   SectionKind = "DeploymentOptionSection"
	OperatingSystemSection    SectionKind = "OperatingSystemSection"
	InstallSection            SectionKind = "InstallSection"
	VirtualHardwareSection    SectionKind = "VirtualHardwareSection"
	EnvironmentFilesSection   SectionKind = "EnvironmentFilesSection"
	BootDeviceSection         SectionKind = "BootDeviceSection"
	SharedDiskSection         SectionKind = "SharedDiskSection"
	ScaleOutSection           SectionKind = "ScaleOutSection"
	PlacementGroupSection     SectionKind = "PlacementGroupSection"
	PlacementSection          SectionKind = "PlacementSection"
	EncryptionSection         SectionKind = "EncryptionSection"
)

// Section is any section.
type Section struct {
	Node
	Kind SectionKind
	// Space is the namespace of the element, or of its xsi:type in 0.9.
	Space string
	Info  Message
	// Required is ovf:required, true where it is not given: a deployment
	// that does not understand the section must fail.
	Required bool
	// Known is set for the sections of the standard and those vendors'
	// that this package reads.
	Known bool
}

// ContentKind tells a virtual system from a collection.
type ContentKind uint8

// The kinds of content.
const (
	VirtualSystem ContentKind = iota
	VirtualSystemCollection
)

// String gives the element's name.
func (k ContentKind) String() string {
	if k == VirtualSystemCollection {
		return "VirtualSystemCollection"
	}
	return "VirtualSystem"
}

// Content is a virtual system or a collection of them.
type Content struct {
	Node
	Kind ContentKind
	ID   string
	Info Message
	Name Message
	// Children are a collection's virtual systems and collections.
	Children []*Content
	// Sections are all its sections in their order, known or not.
	Sections []*Section

	Products    []*Product
	EULAs       []*EULA
	Annotations []Message
	OS          *OperatingSystem
	Hardware    []*Hardware
	// Resources are the items of a collection's ResourceAllocationSection.
	Resources []*Item
	Startup   []*StartupItem
	Install   *Install
	// EnvironmentFiles, BootDevices, ScaleOut, Placement: OVF 2.x.
	EnvironmentFiles []EnvironmentFile
	BootDevices      []*BootDevice
	ScaleOut         []*ScaleOut
	Placement        []string // the IDs of placement groups
	IPAssignment     *IPAssignment
	Machine          *VBoxMachine
}

// Walk calls f for the content and all below it, in document order.
func (c *Content) Walk(f func(*Content)) {
	if c == nil {
		return
	}
	f(c)
	for _, child := range c.Children {
		child.Walk(f)
	}
}

// Systems gives the virtual systems in it, itself included.
func (c *Content) Systems() []*Content {
	var all []*Content
	c.Walk(func(c *Content) {
		if c.Kind == VirtualSystem {
			all = append(all, c)
		}
	})
	return all
}

// Product is a ProductSection.
type Product struct {
	Node
	// Class and Instance qualify the keys of the properties.
	Class, Instance string
	Required        bool
	Info            Message
	Product, Vendor Message
	Version         string
	FullVersion     string
	ProductURL      string
	VendorURL       string
	AppURL          string
	Icons           []Icon
	Properties      []*Property
}

// Icon is a product's picture.
type Icon struct {
	FileRef, MimeType string
	Width, Height     int // in pixels, 0 where not given
}

// Property is a ProductSection's Property.
type Property struct {
	Node
	// Key is as written; FullKey is class.key.instance, as the environment
	// document has it.
	Key, FullKey string
	Type         string
	// Configurations are the deployment options in which the guest is told
	// of it; none means all.
	Configurations []string
	// Qualifiers is as written, ValueMap{"a","b"} MinLen(2) and the like;
	// VMwareQualifiers is vmw:qualifiers.
	Qualifiers, VMwareQualifiers string
	UserConfigurable             bool
	// Value is the default for all options but those in Values. HasValue
	// tells an empty one from none.
	Value    string
	HasValue bool
	// Values are the defaults for certain deployment options.
	Values             []PropertyValue
	Password           bool
	Label, Description Message
	// Category is the text of the Category element before it.
	Category Message
}

// PropertyValue is a default for one deployment option.
type PropertyValue struct {
	Option, Value string
}

// EULA is an EulaSection. External licence files are named by a message
// bundle.
type EULA struct {
	Node
	Info     Message
	License  Message
	Required bool
}

// OperatingSystem is an OperatingSystemSection. ID is a value of
// CIM_OperatingSystem.OsType.
type OperatingSystem struct {
	Node
	ID          int // -1 where it is not a number
	Version     string
	Description Message
	VMwareType  string // vmw:osType
	VBoxType    string // vbox:OSType
}

// Hardware is a VirtualHardwareSection.
type Hardware struct {
	Node
	ID   string
	Info Message
	// Transports are the ways in which the environment document may reach
	// the guest: "iso", "com.vmware.guestInfo", ….
	Transports []string
	Required   bool
	// System is the vssd: System element.
	SystemID    string // VirtualSystemIdentifier
	SystemTypes []string
	Items       []*Item
	Configs     []Config
	Extra       []Config
}

// Config returns the value of a vmw:Config key of the section.
func (h *Hardware) Config(key string) (string, bool) { return lookupConfig(h.Configs, key) }

// ExtraConfig returns the value of a vmw:ExtraConfig key of the section.
func (h *Hardware) ExtraConfig(key string) (string, bool) { return lookupConfig(h.Extra, key) }

func lookupConfig(all []Config, key string) (string, bool) {
	for _, c := range all {
		if c.Key == key {
			return c.Value, true
		}
	}
	return "", false
}

// Config is a vmw:Config or vmw:ExtraConfig element.
type Config struct {
	Node
	Key, Value string
	// Required is ovf:required, true where it is not given; Stated is set
	// where it is.
	Required, Stated bool
}

// ItemKind tells the three kinds of resource item apart.
type ItemKind string

// The kinds of item. StorageItem and EthernetPortItem came with OVF 2.0.
const (
	RASDItem         ItemKind = "Item"
	StorageItem      ItemKind = "StorageItem"
	EthernetPortItem ItemKind = "EthernetPortItem"
)

// Item is one resource: a CIM_ResourceAllocationSettingData. Its fields are as
// written; numbers are parsed by Resolve.
type Item struct {
	Node
	Kind ItemKind
	// Configurations are the deployment options that the item is for; none
	// means all.
	Configurations []string
	// Bound is "", "normal", "min" or "max".
	Bound    string
	Required bool

	InstanceID        string
	ElementName       string // Caption in 0.9
	Description       string
	ResourceType      ResourceType // 0 where it is missing or not a number
	OtherResourceType string
	// SubTypes are the ResourceSubType's alternatives, best first.
	SubTypes             []string
	VirtualQuantity      string
	VirtualQuantityUnits string
	AllocationUnits      string
	Reservation          string
	Limit                string
	Weight               string
	Address              string // BusNumber in 0.9
	AddressOnParent      string
	Parent               string
	Connections          []string
	HostResources        []string
	AutomaticAllocation  string
	MappingBehavior      string
	PoolID               string
	CoresPerSocket       string // vmw:CoresPerSocket
	// Processor is what an item for processors says of their kind, nil where
	// it says nothing.
	Processor *ProcessorKind
	Configs   []Config
	Extra     []Config
}

// ProcessorKind is what of CIM_ProcessorAllocationSettingData stands in an
// item.
type ProcessorKind struct {
	// Architecture is ProcessorArchitecture, such as DMTF:x86; InstructionSet
	// is such as DMTF:x86:64.
	Architecture, InstructionSet string
	Extensions                   []Extension
}

// Extension is one of InstructionSetExtensionName, such as DMTF:x86:AES.
type Extension struct {
	Name     string
	Required bool
	// Disabled is set where InstructionSetExtensionStatus says that the
	// processor is not to have it.
	Disabled bool
}

// Config returns the value of a vmw:Config key of the item.
func (i *Item) Config(key string) (string, bool) { return lookupConfig(i.Configs, key) }

// ResourceType is a value of CIM_ResourceAllocationSettingData.ResourceType.
type ResourceType int

// The resource types that virtual hardware is made of.
const (
	Other              ResourceType = 1
	ComputerSystem     ResourceType = 2
	Processor          ResourceType = 3
	Memory             ResourceType = 4
	IDEController      ResourceType = 5
	SCSIController     ResourceType = 6
	FCHBA              ResourceType = 7
	ISCSIHBA           ResourceType = 8
	IBHCA              ResourceType = 9
	EthernetAdapter    ResourceType = 10
	OtherNetwork       ResourceType = 11
	IOSlot             ResourceType = 12
	IODevice           ResourceType = 13
	FloppyDrive        ResourceType = 14
	CDDrive            ResourceType = 15
	DVDDrive           ResourceType = 16
	DiskDrive          ResourceType = 17
	TapeDrive          ResourceType = 18
	StorageExtent      ResourceType = 19
	OtherStorage       ResourceType = 20
	SerialPort         ResourceType = 21
	ParallelPort       ResourceType = 22
	USBController      ResourceType = 23
	GraphicsController ResourceType = 24
	IEEE1394Controller ResourceType = 25
	PartitionableUnit  ResourceType = 26
	BasePartitionable  ResourceType = 27
	Power              ResourceType = 28
	Cooling            ResourceType = 29
	EthernetSwitchPort ResourceType = 30
	LogicalDisk        ResourceType = 31
	StorageVolume      ResourceType = 32
	EthernetConnection ResourceType = 33
	GPU                ResourceType = 34
	SoundCard          ResourceType = 35
)

// StartupItem is a StartupSection's Item.
type StartupItem struct {
	Node
	ID    string
	Order int
	// StartDelay and StopDelay are in seconds.
	StartDelay, StopDelay int
	WaitingForGuest       bool
	StartAction           string // "powerOn" (default), "none"
	StopAction            string // "powerOff" (default), "guestShutdown", "none"
}

// Install is an InstallSection: the guest installs itself at first boot.
type Install struct {
	Node
	InitialBootStopDelay int // in seconds
}

// EnvironmentFile is a file for the guest (2.x EnvironmentFilesSection).
type EnvironmentFile struct {
	FileRef, Path string
}

// BootDevice is an order of devices to boot from (2.x BootDeviceSection,
// CIM_BootConfigSetting), by InstanceID of the items.
type BootDevice struct {
	Node
	Caption    string
	InstanceID string
	Settings   []string
}

// ScaleOut says how many of a virtual system there may be (2.x).
type ScaleOut struct {
	Node
	ID          string
	Description Message
	// Min, Max and Default are as written: numbers or ${property}.
	Min, Max, Default string
}

// IPAssignment is VMware's vmw:IpAssignmentSection.
type IPAssignment struct {
	Node
	Protocols string
	Schemes   string
}

// VBoxMachine is what users need of VirtualBox's vbox:Machine.
type VBoxMachine struct {
	Node
	UUID, Name, OSType string
	// Firmware is "BIOS", "EFI", "EFI32", "EFI64", "EFIDUAL" or "".
	Firmware   string
	TPM        string // "v1_2", "v2_0", "swtpm" or ""
	SecureBoot bool
	Chipset    string // "PIIX3", "ICH9" or ""
	// StateFile is the file with the memory of a machine that was saved while
	// it ran, "" for one that was off.
	StateFile string
}

// Bundle is a Strings element: texts in one language, here or in a file.
type Bundle struct {
	Node
	Lang    string
	FileRef string
	// Messages are the texts that stand in the descriptor, by msgid. Files
	// are the IDs of the files that hold a text in their place, such as a
	// licence, also by msgid (2.x).
	Messages, Files map[string]string
}
