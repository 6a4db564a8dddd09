package spec

// Each field's doc tag is its text in the JSON schema and in docs/spec.md,
// so the two cannot differ from what is read. A key whose tag has "required"
// must be there; enum lists the values that a text may have.

// Appliance is a whole specification: everything that a package is made from,
// but for the bytes of its files.
type Appliance struct {
	Version    string     `yaml:"version" enum:"1|1.0|1.1|2|2.0|2.1" doc:"Version of OVF to write; 1 and 2 leave open which. Without it: 1, or 2.1 where something is used that came with OVF 2."`
	Name       string     `yaml:"name" doc:"The package's name: that of the descriptor and the manifest, and the beginning of disk file names. Without it: the ID of the machine or collection."`
	Language   string     `yaml:"language" doc:"Language of the texts that are given without one, such as en-US."`
	Networks   []Network  `yaml:"networks" doc:"The logical networks that machines connect to."`
	Disks      []Disk     `yaml:"disks" doc:"The virtual disks of the package."`
	Files      []File     `yaml:"files" doc:"Further files of the package: CD and floppy images, icons, files for the guest."`
	Options    []Option   `yaml:"options" doc:"Deployment options: which sizes or kinds of the appliance there are to choose from."`
	Groups     []Group    `yaml:"placementGroups" doc:"Groups of machines that are to run together or apart (OVF 2)."`
	Machine    *Content   `yaml:"machine" doc:"The one virtual machine of the appliance. Either this or collection."`
	Collection *Content   `yaml:"collection" doc:"Several machines, or collections of machines. Either this or machine."`
	Languages  []Language `yaml:"languages" doc:"Texts in further languages by message ID. Translations that stand beside a text are added to them."`
	// The digests themselves are made when the package is written.
	ChunkDigests bool        `yaml:"chunkDigests" doc:"Add digests of every 1 MiB of all files, by which disks are proved while they are streamed (docs/chunks.md)."`
	Infos        Infos       `yaml:"infos" doc:"Texts that say what the sections of the envelope are; each has a default."`
	DiskXML      RawXML      `yaml:"diskXML" doc:"Further elements of the DiskSection, as XML."`
	SharedXML    RawXML      `yaml:"sharedDiskXML" doc:"Further elements of the SharedDiskSection, as XML."`
	XML          []RawXML    `yaml:"xml" doc:"Sections of the envelope for which there is no key, as XML."`
	Namespaces   []Namespace `yaml:"namespaces" doc:"Further prefixes that XML in this file may use. Those of OVF, CIM, VMware and VirtualBox are declared anyway."`
}

// Namespace is a prefix with what it stands for.
type Namespace struct {
	Prefix string `yaml:"prefix" doc:"The prefix." required:"true"`
	URI    string `yaml:"uri" doc:"The namespace's name." required:"true"`
}

// Infos are the Info texts of the envelope's sections.
type Infos struct {
	Disks       Text `yaml:"disks" doc:"Of the DiskSection."`
	SharedDisks Text `yaml:"sharedDisks" doc:"Of the SharedDiskSection."`
	Networks    Text `yaml:"networks" doc:"Of the NetworkSection."`
	Options     Text `yaml:"options" doc:"Of the DeploymentOptionSection."`
}

// RawXML is XML that is taken over as it is, with the place of the YAML that it
// stands in.
type RawXML struct {
	Text string
	Pos  Pos
}

// Network is a logical network.
type Network struct {
	Name        string `yaml:"name" doc:"The name that network cards refer to." required:"true"`
	Description Text   `yaml:"description" doc:"What the network is for."`
	XML         RawXML `yaml:"xml" doc:"Further elements of the Network, as XML."`
	Pos         Pos    `yaml:"-"`
}

// Disk is a virtual disk of the package.
type Disk struct {
	ID          string   `yaml:"id" doc:"The ID that drives refer to." required:"true"`
	Source      string   `yaml:"source" doc:"The image to package, in any format that ovation reads; a path from the specification's folder. A disk without one begins empty."`
	Capacity    string   `yaml:"capacity" doc:"What the guest sees: a size such as 20GiB, or ${property}. With a source it is the source's and can be left out."`
	Units       string   `yaml:"units" doc:"Units of the capacity in the descriptor, such as byte * 2^30. Without it: bytes."`
	Populated   *Size    `yaml:"populatedSize" doc:"How much of the disk holds data. For a disk that is converted it is counted."`
	Format      string   `yaml:"format" doc:"Format to write: streamOptimized (the default), vmdk, qcow2, vhd, vhdx, raw, vdi; for a disk without source the URI of its format. keep packages the source's file as it is."`
	FormatURI   string   `yaml:"formatURI" doc:"What the descriptor calls the format, where it is not the URI that goes with it."`
	Parent      string   `yaml:"parent" doc:"ID of the disk that this one is a delta of."`
	Shared      bool     `yaml:"shared" doc:"Several machines may use the disk at once (a SharedDiskSection, OVF 2)."`
	FileID      string   `yaml:"fileID" doc:"The ID of the disk's file in the References. Without it: file-ID. Where files has this ID, the disk is in that file."`
	File        string   `yaml:"file" doc:"The file's name in the package. Without it: NAME-ID with the format's ending."`
	Compression string   `yaml:"compression" enum:"gzip|identity" doc:"How the file is stored in the package: gzip compresses it."`
	ChunkSize   Size     `yaml:"chunkSize" doc:"Cut the file into pieces of this size, such as 2GB."`
	XML         RawXML   `yaml:"xml" doc:"Further elements of the Disk, as XML."`
	Attributes  []XMLKey `yaml:"attributes" doc:"Further attributes of the Disk."`
	Pos         Pos      `yaml:"-"`
}

// XMLKey is an attribute or element for which there is no key.
type XMLKey struct {
	Name  string `yaml:"name" doc:"The name with its prefix, such as vmw:key." required:"true"`
	Value string `yaml:"value" doc:"The value."`
}

// File is a file of the package that is taken as it is.
type File struct {
	ID          string   `yaml:"id" doc:"The ID that others refer to." required:"true"`
	Source      string   `yaml:"source" doc:"The file to package; a path from the specification's folder. Without it: the file called name."`
	Name        string   `yaml:"name" doc:"Its name in the package, or the URL where it lies. Without it: that of the source."`
	Size        Size     `yaml:"size" doc:"Its size as stored, for a file that lies elsewhere."`
	Compression string   `yaml:"compression" enum:"gzip|identity" doc:"How the file is stored in the package: gzip compresses it."`
	ChunkSize   Size     `yaml:"chunkSize" doc:"Cut the file into pieces of this size, such as 2GB."`
	Stored      bool     `yaml:"stored" doc:"The source is compressed already as compression says."`
	Attributes  []XMLKey `yaml:"attributes" doc:"Further attributes of the File."`
	Pos         Pos      `yaml:"-"`
}

// Option is a deployment option.
type Option struct {
	ID          string `yaml:"id" doc:"The ID that hardware and properties refer to." required:"true"`
	Label       Text   `yaml:"label" doc:"What people choose by. Without it: the ID."`
	Description Text   `yaml:"description" doc:"When to choose it. Without it: the label."`
	Default     bool   `yaml:"default" doc:"The option to use where none is chosen."`
	Pos         Pos    `yaml:"-"`
}

// Group is a placement group.
type Group struct {
	ID          string `yaml:"id" doc:"The ID that machines refer to." required:"true"`
	Policy      string `yaml:"policy" doc:"affinity: together; availability: apart." required:"true"`
	Description Text   `yaml:"description" doc:"What the group is for."`
	Info        Text   `yaml:"info" doc:"What the section is."`
	Pos         Pos    `yaml:"-"`
}

// Language is a bundle of texts in one language.
type Language struct {
	Language string     `yaml:"language" doc:"The language, such as de-DE." required:"true"`
	File     string     `yaml:"file" doc:"ID of the file (in files) that holds the texts, as an OVF message bundle."`
	Messages []MsgEntry `yaml:"messages" doc:"The texts."`
	Pos      Pos        `yaml:"-"`
}

// MsgEntry is one text of a bundle.
type MsgEntry struct {
	ID   string `yaml:"id" doc:"The message ID." required:"true"`
	Text string `yaml:"text" doc:"The text."`
	File string `yaml:"file" doc:"ID of the file (in files) that holds the text (OVF 2)."`
}

// Content is a virtual machine or a collection.
type Content struct {
	ID          string            `yaml:"id" doc:"The ID of the virtual system or collection." required:"true"`
	Name        Text              `yaml:"name" doc:"Its name for people."`
	Info        Text              `yaml:"info" doc:"What it is, in a sentence."`
	Annotations []Note            `yaml:"annotations" doc:"Notes for people."`
	Products    []Product         `yaml:"products" doc:"What is in it, and the properties by which it is set up."`
	EULAs       []EULA            `yaml:"eulas" doc:"Licences that have to be agreed to."`
	OS          *OperatingSystem  `yaml:"os" doc:"The guest operating system."`
	Install     *Install          `yaml:"install" doc:"The guest installs itself when it is first started."`
	Hardware    []Hardware        `yaml:"hardware" doc:"The virtual hardware; several for several families."`
	Resources   *Resources        `yaml:"resources" doc:"What all of the collection may take."`
	Startup     *Startup          `yaml:"startup" doc:"In which order the members of the collection start and stop."`
	EnvFiles    *EnvironmentFiles `yaml:"environmentFiles" doc:"Files that the guest gets beside the environment document (OVF 2)."`
	Boot        *Boot             `yaml:"boot" doc:"Orders in which devices are tried for booting (OVF 2)."`
	ScaleOut    []ScaleOut        `yaml:"scaleOut" doc:"How many there may be of a collection's members (OVF 2)."`
	Placement   []Placement       `yaml:"placement" doc:"Placement groups that it is in (OVF 2)."`
	IP          *IPAssignment     `yaml:"ipAssignment" doc:"How addresses may be assigned (a section of VMware's)."`
	Contents    []Member          `yaml:"contents" doc:"The members of a collection, in their order."`
	XML         []RawXML          `yaml:"xml" doc:"Sections for which there is no key, as XML."`
	Pos         Pos               `yaml:"-"`
}

// Member is a member of a collection.
type Member struct {
	Machine    *Content `yaml:"machine" doc:"A virtual machine. Either this or collection."`
	Collection *Content `yaml:"collection" doc:"A collection. Either this or machine."`
	Pos        Pos      `yaml:"-"`
}

// Note is an annotation.
type Note struct {
	Text     Text  `yaml:"text" doc:"The note." required:"true"`
	Info     Text  `yaml:"info" doc:"What the section is."`
	Required *bool `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
}

// Product says what is in a machine.
type Product struct {
	Class       string     `yaml:"class" doc:"Set before the keys of the properties: class.key."`
	Instance    string     `yaml:"instance" doc:"Set behind the keys of the properties: key.instance."`
	Required    *bool      `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Info        Text       `yaml:"info" doc:"What the section is."`
	Product     Text       `yaml:"product" doc:"The product's name."`
	Vendor      Text       `yaml:"vendor" doc:"Who makes it."`
	Version     string     `yaml:"version" doc:"The version, short."`
	FullVersion string     `yaml:"fullVersion" doc:"The version in full."`
	ProductURL  string     `yaml:"productURL" doc:"The product's home page."`
	VendorURL   string     `yaml:"vendorURL" doc:"The vendor's home page."`
	AppURL      string     `yaml:"appURL" doc:"Where the running application is reached; ${property} is replaced."`
	Icons       []Icon     `yaml:"icons" doc:"Pictures of the product."`
	Properties  []Property `yaml:"properties" doc:"What can be set when the appliance is deployed."`
	XML         RawXML     `yaml:"xml" doc:"Further elements of the section, as XML."`
	Attributes  []XMLKey   `yaml:"attributes" doc:"Further attributes of the section."`
	Pos         Pos        `yaml:"-"`
}

// Icon is a picture.
type Icon struct {
	File   string `yaml:"file" doc:"ID of the picture's file (in files)." required:"true"`
	Type   string `yaml:"type" doc:"Media type, such as image/png."`
	Width  int    `yaml:"width" doc:"In pixels."`
	Height int    `yaml:"height" doc:"In pixels."`
}

// Property is what can be set at deployment.
type Property struct {
	Key              string     `yaml:"key" doc:"The key; the guest gets it as class.key.instance." required:"true"`
	Type             string     `yaml:"type" doc:"string (the default), boolean, uint8 to uint64, sint8 to sint64, real32, real64; a vendor's types too."`
	Default          *string    `yaml:"default" doc:"The value where none is given."`
	Values           []PerValue `yaml:"values" doc:"Defaults for certain deployment options."`
	Options          Strings    `yaml:"options" doc:"The deployment options in which there is this property (OVF 2). Without it: all."`
	UserConfigurable bool       `yaml:"userConfigurable" doc:"Whether people are asked for it."`
	Password         bool       `yaml:"password" doc:"The value is not shown."`
	Qualifiers       string     `yaml:"qualifiers" doc:"What values are allowed, as CIM writes it: MinLen(1), MaxLen(64), ValueMap{\"a\",\"b\"}."`
	VMware           string     `yaml:"vmwareQualifiers" doc:"The same in VMware's words (vmw:qualifiers)."`
	Label            Text       `yaml:"label" doc:"What people are asked."`
	Description      Text       `yaml:"description" doc:"What it means."`
	Category         Text       `yaml:"category" doc:"The heading it stands under. It holds for those that follow as well."`
	Attributes       []XMLKey   `yaml:"attributes" doc:"Further attributes of the Property."`
	XML              RawXML     `yaml:"xml" doc:"Further elements of the Property, as XML."`
	Pos              Pos        `yaml:"-"`
}

// PerValue is a default for one option.
type PerValue struct {
	Option string `yaml:"option" doc:"ID of the deployment option."`
	Value  string `yaml:"value" doc:"The value." required:"true"`
}

// EULA is a licence.
type EULA struct {
	Info     Text  `yaml:"info" doc:"What the section is."`
	License  Text  `yaml:"license" doc:"The licence's text, or the file it is read from." required:"true"`
	Required *bool `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Pos      Pos   `yaml:"-"`
}

// OperatingSystem is the guest's.
type OperatingSystem struct {
	ID          int    `yaml:"id" doc:"Number of CIM_OperatingSystem.OsType: 101 for Linux on x86-64, 96 for Debian. 0 is unknown, 1 other."`
	Version     string `yaml:"version" doc:"The version."`
	Info        Text   `yaml:"info" doc:"What the section is."`
	Description Text   `yaml:"description" doc:"The name for people."`
	VMware      string `yaml:"vmware" doc:"VMware's name of it (vmw:osType), such as debian12_64Guest."`
	VirtualBox  string `yaml:"virtualbox" doc:"VirtualBox's name of it (vbox:OSType), such as Debian_64."`
	Required    *bool  `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Pos         Pos    `yaml:"-"`
}

// Install says that the guest installs itself.
type Install struct {
	StopDelay int   `yaml:"initialBootStopDelay" doc:"For how many seconds to wait until the guest switches itself off; 0 is for ever."`
	Info      Text  `yaml:"info" doc:"What the section is."`
	Required  *bool `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
}

// Hardware is the virtual hardware of a machine.
type Hardware struct {
	ID         string    `yaml:"id" doc:"ID of the section."`
	Info       Text      `yaml:"info" doc:"What the section is."`
	Required   *bool     `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Family     Strings   `yaml:"family" doc:"The virtual hardware family, such as vmx-13, virtualbox-2.2 or kvm; several separated."`
	System     *System   `yaml:"system" doc:"What else the System element says."`
	Transport  Strings   `yaml:"transport" doc:"How the guest gets the environment document: iso, com.vmware.guestInfo."`
	Firmware   string    `yaml:"firmware" enum:"bios|efi" doc:"What starts the machine (vmw:Config firmware)."`
	SecureBoot *bool     `yaml:"secureBoot" doc:"Whether UEFI Secure Boot is on (vmw:Config bootOptions.efiSecureBootEnabled)."`
	CPUs       int       `yaml:"cpus" doc:"Number of virtual processors."`
	Cores      int       `yaml:"coresPerSocket" doc:"How many processors share a socket (vmw:CoresPerSocket)."`
	Memory     Size      `yaml:"memory" doc:"Memory, such as 2GiB."`
	Per        []PerSize `yaml:"perOption" doc:"Processors and memory for certain deployment options."`
	Disks      []Drive   `yaml:"disks" doc:"Disk drives. Controllers are added as they need them."`
	CDROMs     []Drive   `yaml:"cdroms" doc:"CD drives; those that name neither file nor disk are empty."`
	Floppies   []Drive   `yaml:"floppies" doc:"Floppy drives."`
	Cards      []Card    `yaml:"cards" doc:"Network cards."`
	Devices    []Device  `yaml:"devices" doc:"All other devices, in their order; any device at all can stand here."`
	Configs    []Config  `yaml:"config" doc:"Settings of VMware's (vmw:Config)."`
	Extra      []Config  `yaml:"extraConfig" doc:"Settings of VMware's (vmw:ExtraConfig)."`
	XML        RawXML    `yaml:"xml" doc:"Further elements of the section, as XML."`
	Attributes []XMLKey  `yaml:"attributes" doc:"Further attributes of the section."`
	Pos        Pos       `yaml:"-"`
}

// System is the System element of a hardware section.
type System struct {
	Name       string   `yaml:"name" doc:"ElementName. Without it: Virtual Hardware Family."`
	InstanceID string   `yaml:"instanceID" doc:"InstanceID. Without it: 0."`
	Identifier string   `yaml:"identifier" doc:"VirtualSystemIdentifier. Without it: the machine's ID."`
	Fields     []XMLKey `yaml:"fields" doc:"Further fields of CIM_VirtualSystemSettingData."`
	Bare       bool     `yaml:"bare" doc:"Write nothing but what is given here."`
}

// PerSize is hardware for one option.
type PerSize struct {
	Option string `yaml:"option" doc:"ID of the deployment option." required:"true"`
	CPUs   int    `yaml:"cpus" doc:"Number of virtual processors."`
	Memory Size   `yaml:"memory" doc:"Memory, such as 8GiB."`
	Pos    Pos    `yaml:"-"`
}

// Drive is a disk, CD or floppy drive.
type Drive struct {
	Disk       string  `yaml:"disk" doc:"ID of the disk in it."`
	File       string  `yaml:"file" doc:"ID of the file in it, such as a CD image."`
	Controller string  `yaml:"controller" enum:"scsi|ide|sata|nvme|virtio" doc:"Kind of the controller it is on. Without it: scsi for disks, ide for CDs; a consumer's profile may say otherwise."`
	Options    Strings `yaml:"options" doc:"The deployment options that have it. Without it: all."`
	Pos        Pos     `yaml:"-"`
}

// Card is a network card.
type Card struct {
	Network string  `yaml:"network" doc:"Name of the network." required:"true"`
	Model   Strings `yaml:"model" doc:"The card's model, such as VmxNet3, E1000 or virtio; several, best first. Without it: E1000."`
	MAC     string  `yaml:"mac" doc:"Address of the card. Without it: assigned at deployment."`
	Name    string  `yaml:"name" doc:"Name for people."`
	Options Strings `yaml:"options" doc:"The deployment options that have it. Without it: all."`
	Pos     Pos     `yaml:"-"`
}

// Device is any item of virtual hardware, with every field that it has in the
// descriptor. Where two keys mean the same field, one of them is given.
type Device struct {
	Type         string   `yaml:"type" doc:"Kind of the device: processor, memory, ide, scsi, ethernet, floppy, cdrom, dvd, disk, tape, storage (controllers of SATA and NVMe), serial, parallel, usb, graphics, firewire, sound, fc, iscsi, infiniband, network, other, or a number of CIM_ResourceAllocationSettingData.ResourceType." required:"true"`
	ID           string   `yaml:"id" doc:"InstanceID, by which others have it as their parent. Without it: the next number."`
	Name         *string  `yaml:"name" doc:"ElementName. Without it: made from the type; an empty one leaves the field out."`
	Description  *string  `yaml:"description" doc:"Description."`
	Caption      string   `yaml:"caption" doc:"Caption."`
	Quantity     string   `yaml:"quantity" doc:"VirtualQuantity, in units."`
	Units        string   `yaml:"units" doc:"AllocationUnits, such as byte * 2^20."`
	QuantUnits   string   `yaml:"quantityUnits" doc:"VirtualQuantityUnits."`
	SubTypes     []string `yaml:"subtypes" doc:"ResourceSubType: the models that will do, best first."`
	OtherType    string   `yaml:"otherType" doc:"OtherResourceType, where type is other."`
	Parent       string   `yaml:"parent" doc:"The id of the controller it is on."`
	Slot         string   `yaml:"slot" doc:"AddressOnParent: its place on the controller."`
	Address      string   `yaml:"address" doc:"Address: a controller's number, a card's MAC."`
	Disk         string   `yaml:"disk" doc:"ID of the disk in it (HostResource)."`
	File         string   `yaml:"file" doc:"ID of the file in it (HostResource)."`
	Host         []string `yaml:"hostResources" doc:"HostResource as it is to be written."`
	Connections  []string `yaml:"networks" doc:"Names of the networks that it is connected to (Connection)."`
	Automatic    string   `yaml:"automaticAllocation" doc:"AutomaticAllocation: true or false. For a drive or card without it: true."`
	Reservation  string   `yaml:"reservation" doc:"Reservation, in units."`
	Limit        string   `yaml:"limit" doc:"Limit, in units."`
	Weight       string   `yaml:"weight" doc:"Weight."`
	Mapping      string   `yaml:"mappingBehavior" doc:"MappingBehavior."`
	Pool         string   `yaml:"poolID" doc:"PoolID."`
	Cores        string   `yaml:"coresPerSocket" doc:"How many processors share a socket (vmw:CoresPerSocket)."`
	Bound        string   `yaml:"bound" enum:"normal|min|max" doc:"This is the lower or upper end of the range for the device of the same id."`
	Required     *bool    `yaml:"required" doc:"Whether the machine cannot do without it. Without it: yes."`
	Options      Strings  `yaml:"options" doc:"The deployment options that have it. Without it: all."`
	Fields       []XMLKey `yaml:"fields" doc:"Further fields of CIM_ResourceAllocationSettingData."`
	Configs      []Config `yaml:"config" doc:"Settings of VMware's (vmw:Config)."`
	ExtraConfigs []Config `yaml:"extraConfig" doc:"Settings of VMware's (vmw:ExtraConfig)."`
	XML          RawXML   `yaml:"xml" doc:"Further elements of the item, as XML."`
	Attributes   []XMLKey `yaml:"attributes" doc:"Further attributes of the item."`
	Element      string   `yaml:"element" enum:"Item|StorageItem|EthernetPortItem" doc:"The element to write. Without it: as the version of OVF has it."`
	Pos          Pos      `yaml:"-"`
}

// Config is a vmw:Config or vmw:ExtraConfig.
type Config struct {
	Key      string `yaml:"key" doc:"The key." required:"true"`
	Value    string `yaml:"value" doc:"The value."`
	Required *bool  `yaml:"required" doc:"Whether a product that does not know it must refuse the package. Without it: no."`
}

// Resources are what a collection may take together.
type Resources struct {
	Info     Text     `yaml:"info" doc:"What the section is."`
	Required *bool    `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Devices  []Device `yaml:"devices" doc:"The resources." required:"true"`
	Pos      Pos      `yaml:"-"`
}

// Startup is the order in which the members of a collection start and stop.
type Startup struct {
	Info     Text          `yaml:"info" doc:"What the section is."`
	Required *bool         `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Items    []StartupItem `yaml:"items" doc:"The members." required:"true"`
	XML      RawXML        `yaml:"xml" doc:"Further elements of the section, as XML."`
	Pos      Pos           `yaml:"-"`
}

// StartupItem is a member's place in the order.
type StartupItem struct {
	ID           string   `yaml:"id" doc:"ID of the member." required:"true"`
	Order        int      `yaml:"order" doc:"Its place: lower ones start first; 0 is no order." `
	StartDelay   *int     `yaml:"startDelay" doc:"For how many seconds to wait before the next start."`
	WaitForGuest *bool    `yaml:"waitingForGuest" doc:"Whether the wait ends when the guest says that it is ready."`
	StartAction  string   `yaml:"startAction" doc:"powerOn (the default) or none."`
	StopDelay    *int     `yaml:"stopDelay" doc:"For how many seconds to wait after stopping."`
	StopAction   string   `yaml:"stopAction" doc:"powerOff (the default), guestShutdown or none."`
	Attributes   []XMLKey `yaml:"attributes" doc:"Further attributes of the item."`
	Pos          Pos      `yaml:"-"`
}

// EnvironmentFiles are files for the guest.
type EnvironmentFiles struct {
	Info     Text      `yaml:"info" doc:"What the section is."`
	Required *bool     `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Files    []EnvFile `yaml:"files" doc:"The files." required:"true"`
}

// EnvFile is a file for the guest.
type EnvFile struct {
	File string `yaml:"file" doc:"ID of the file (in files)." required:"true"`
	Path string `yaml:"path" doc:"Its path in the guest's view." required:"true"`
}

// Boot holds orders of devices to boot from.
type Boot struct {
	Info     Text        `yaml:"info" doc:"What the section is."`
	Required *bool       `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Orders   []BootOrder `yaml:"orders" doc:"The orders." required:"true"`
}

// BootOrder is one order of devices.
type BootOrder struct {
	ID      string   `yaml:"id" doc:"InstanceID."`
	Caption string   `yaml:"caption" doc:"Its name for people."`
	Devices []string `yaml:"devices" doc:"The id of each device, first one first." required:"true"`
}

// ScaleOut says how many there may be.
type ScaleOut struct {
	ID          string `yaml:"id" doc:"ID of the section."`
	Info        Text   `yaml:"info" doc:"What the section is."`
	Description Text   `yaml:"description" doc:"What it means."`
	Required    *bool  `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
	Min         string `yaml:"minimum" doc:"A number, or ${property}."`
	Max         string `yaml:"maximum" doc:"A number, or ${property}."`
	Default     string `yaml:"default" doc:"A number, or ${property}."`
}

// Placement puts a machine in a placement group.
type Placement struct {
	Group    string `yaml:"group" doc:"ID of the group." required:"true"`
	Info     Text   `yaml:"info" doc:"What the section is."`
	Required *bool  `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
}

// IPAssignment is VMware's section on addresses.
type IPAssignment struct {
	Protocols string `yaml:"protocols" doc:"IPv4, IPv6."`
	Schemes   string `yaml:"schemes" doc:"ovfenv, dhcp."`
	Info      Text   `yaml:"info" doc:"What the section is."`
	Required  *bool  `yaml:"required" doc:"Whether a product that does not know the section must refuse the package."`
}

// Text is a text for people: in YAML just the text, or a mapping with its
// message ID and its translations.
type Text struct {
	Text         string        `yaml:"text" doc:"The text."`
	File         string        `yaml:"file" doc:"A file to read the text from; a path from the specification's folder."`
	ID           string        `yaml:"id" doc:"Message ID under which translations are found. Without it, one is made where there are translations."`
	Translations []Translation `yaml:"translations" doc:"The same text in further languages."`
	Pos          Pos           `yaml:"-"`
}

// Translation is a text in another language.
type Translation struct {
	Language string `yaml:"language" doc:"The language, such as de." required:"true"`
	Text     string `yaml:"text" doc:"The text."`
	File     string `yaml:"file" doc:"A file to read the text from; a path from the specification's folder."`
}

// IsZero says whether there is nothing.
func (t Text) IsZero() bool {
	return t.Text == "" && t.File == "" && t.ID == "" && len(t.Translations) == 0
}
