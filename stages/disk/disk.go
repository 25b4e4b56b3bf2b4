// Package disk is the stage that makes a disk image of an artifact. The disk boots under UEFI on a
// virtual machine, a server or a laptop. Its partitions:
//
//	sov-esp   FAT32  the kernel as \EFI\BOOT\BOOTX64.EFI or BOOTAA64.EFI, where firmware looks on any disk
//	sov-boot  ext4   sov-init, and how it maps the root file system; the kernel's own command line names this partition
//	sov-root  ext4   rootfs.img, byte for byte, with its hash tree
//	sov-data  ext4   the data disk, of the size of vm.data; the last partition, so that it can grow
//
// Firmware starts the kernel without a command line, and the command line that is compiled into the
// kernel cannot contain the root hash of a build. Therefore the kernel mounts sov-boot first. From
// there sov-init maps sov-root with its hash tree, as dm-mod.create does on a phone, and switches
// to it.
//
// The stage runs on demand, because an image is large and all of it has to be hashed.
package disk

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/diskimage"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/image/verity"
	guestkernel "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/output"
)

// Name is the stage's name and the format's name for --format.
const Name = "disk"

// version is part of the key. It is raised when the image of the same artifact changes.
const version = 1

// made is the time of every file of the boot partition and the EFI system partition: the earliest
// that FAT can store.
var made = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// New returns the stage.
func New() pipeline.Stage { return stage{} }

type stage struct{}

func (stage) Name() string    { return Name }
func (stage) Needs() []string { return []string{bundle.Name} }

func (stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, version)
	k.Add("boot partition", guestkernel.BootPartition)
	return nil
}

func (stage) Run(ctx context.Context, j *pipeline.Job) error {
	w, err := j.Create(artifact.DiskFile)
	if err != nil {
		return err
	}
	defer w.Abort()
	j.Progress().Step("write the disk")
	err = Write(ctx, w.File(), func(name string) (*os.File, error) {
		b, err := j.Output(bundle.Name, name)
		if err != nil {
			return nil, err
		}
		return j.Open(b)
	})
	if err != nil {
		return err
	}
	j.Progress().Step("hash")
	_, err = w.Commit()
	return err
}

// Write writes the disk image of an artifact to f. open opens a file of the artifact by its name.
// The same artifact gives the same bytes.
func Write(ctx context.Context, f *os.File, open func(name string) (*os.File, error)) error {
	a, err := read(open)
	if err != nil {
		return err
	}
	defer a.rootfs.Close()
	if err := a.check(); err != nil {
		return err
	}
	return a.write(ctx, f)
}

// An image holds the parts of a disk image.
type image struct {
	manifest *manifest.Manifest
	spec     *vmspec.Spec
	kernel   []byte
	init     []byte // sov-init, from the root file system
	rootfs   *os.File
	size     int64 // of rootfs
	root     verity.Digest
	pooled   bool // the machine has postgres.pooler
}

// maxKernel is the largest kernel, in bytes: it must fit into the EFI system partition.
const maxKernel = diskimage.ESPSize

func read(open func(name string) (*os.File, error)) (_ *image, err error) {
	a := &image{}
	texts := map[string][]byte{}
	for _, name := range []string{artifact.ManifestFile, artifact.SpecFile, artifact.KernelFile} {
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		texts[name], err = bound.ReadAll(f, maxKernel)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	a.kernel = texts[artifact.KernelFile]
	if a.manifest, err = manifest.Decode(texts[artifact.ManifestFile]); err != nil {
		return nil, err
	}
	if a.spec, err = vmspec.Decode(texts[artifact.SpecFile]); err != nil {
		return nil, err
	}
	if a.manifest.Verity == nil {
		return nil, errors.New("the artifact has no hash tree")
	}
	if a.root, err = a.manifest.Verity.Root(); err != nil {
		return nil, err
	}
	if a.rootfs, err = open(artifact.RootfsFile); err != nil {
		return nil, err
	}
	a.size = verity.FileSize(a.manifest.Verity.DataSize)
	fs, err := ext4.Open(a.rootfs, a.manifest.Verity.DataSize)
	if err == nil {
		_, poolerErr := fs.ReadFile(strings.TrimPrefix(guestspec.ServicesDir+"/"+guestspec.ServicePooler+".json", "/"))
		a.pooled = poolerErr == nil
		a.init, err = fs.ReadFile(strings.TrimPrefix(guestspec.InitPath, "/"))
	}
	if err != nil {
		return nil, errors.Join(err, a.rootfs.Close())
	}
	return a, nil
}

// check returns an error for a machine that a disk image does not support.
func (a *image) check() error {
	if a.spec.DataKey() != "" {
		return errors.New("--format disk: vm.encrypt: a disk image has no place for the key that opens its data disk: build one of a recipe without vm.encrypt")
	}
	for _, d := range a.spec.Disks {
		if d.Role == vmspec.RoleVolume {
			return fmt.Errorf("--format disk: volumes: a disk image has one partition for data: remove the volume %s from the recipe", d.Name)
		}
	}
	if a.pooled {
		return errors.New("--format disk: postgres.pooler: PgBouncer's rules cannot name a network that DHCP chooses: build one of a recipe without postgres.pooler")
	}
	if own := bundle.RecipeParameters(a.spec); len(own) > 0 {
		return fmt.Errorf("--format disk: kernel.parameters: UEFI starts the kernel of a disk image with the command line that is compiled into it: remove %s", strings.Join(own, " "))
	}
	config, err := kernelConfig(a.kernel)
	if err != nil {
		return err
	}
	return guestkernel.CheckDisk(a.spec.Arch, config, guestkernel.Features{})
}

// kernelConfig returns the configuration inside a kernel.
func kernelConfig(kernel []byte) (kconfig.Config, error) {
	image, err := kconfig.Open(kernel)
	if err != nil {
		return nil, err
	}
	text, err := image.Config()
	if err != nil {
		return nil, err
	}
	return kconfig.Parse(text)
}

// dataSize returns the size of the data disk in bytes.
func (a *image) dataSize() (int64, error) {
	for _, d := range a.spec.Disks {
		if d.Role == vmspec.RoleData {
			return datadisk.Size(d.Size)
		}
	}
	return 0, errors.New("vm.json has no data disk")
}

func (a *image) write(ctx context.Context, f *os.File) error {
	data, err := a.dataSize()
	if err != nil {
		return err
	}
	guid := func(part string) string {
		return diskimage.GUID("sov disk image", a.manifest.Name, a.spec.Arch, a.root.String(), string(pipeline.DigestOf(a.kernel)), fmt.Sprint(data), part)
	}
	root, boot := guid("root"), a.boot(guid("root"))
	bootSize, err := boot.size(ctx)
	if err != nil {
		return err
	}
	target, err := arch.Get(a.spec.Arch)
	if err != nil {
		return err
	}
	typeOfRoot := map[string]string{arch.AMD64: diskimage.TypeRootAMD64, arch.ARM64: diskimage.TypeRootARM64}[target.Go]
	return diskimage.Write(ctx, f, guid("disk"), []diskimage.Partition{
		{Name: "sov-esp", Type: diskimage.TypeESP, GUID: guid("esp"), Size: diskimage.ESPSize,
			Write: diskimage.ESP("EFI/BOOT/"+Loader(a.spec.Arch), a.kernel, serial(guid("esp")), made)},
		{Name: "sov-boot", Type: diskimage.TypeLinux, GUID: guestkernel.BootPartition, Size: bootSize, Write: boot.write},
		{Name: "sov-root", Type: typeOfRoot, GUID: root, Size: a.size, Write: diskimage.Copy(a.rootfs, a.size)},
		{Name: guestspec.DataLabel, Type: diskimage.TypeLinux, GUID: guid("data"), Size: data, Write: func(ctx context.Context, p *diskimage.Section) error {
			_, err := ext4.Write(ctx, p, tree.New(), datadisk.FileSystem(data, guestspec.DataLabel, bytesOf(guid("data file system")), made))
			return err
		}},
	})
}

// Loader returns the name of the program in \EFI\BOOT that firmware of an architecture starts (UEFI
// Specification 2.10, section 3.5.1.1).
func Loader(goArch string) string {
	return map[string]string{arch.AMD64: "BOOTX64.EFI", arch.ARM64: "BOOTAA64.EFI"}[goArch]
}

// boot returns the file system that the kernel mounts first.
func (a *image) boot(root string) bootPartition {
	t := tree.New()
	file := func(path string, mode uint32, content []byte) error {
		return t.Put(path, &tree.Inode{Mode: tree.S_IFREG | mode, ModTime: made, Content: tree.Bytes(content)})
	}
	device := "PARTUUID=" + root
	mapping := verity.Target(device, a.manifest.Verity.DataSize, a.root)
	err := errors.Join(
		file(guestspec.InitPath, 0o755, a.init),
		file(guestspec.RootMappingPath, 0o644, []byte(mapping+"\n")),
	)
	for _, dir := range []string{"dev", guestspec.NewRoot} {
		_, made := t.MkdirAll(dir, 0o755)
		err = errors.Join(err, made)
	}
	return bootPartition{t, err}
}

type bootPartition struct {
	tree *tree.Tree
	err  error
}

// size returns the size of the file system in bytes, without writing it.
func (b bootPartition) size(ctx context.Context) (int64, error) {
	if b.err != nil {
		return 0, b.err
	}
	stats, err := ext4.Write(ctx, nowhere{}, b.tree, bootOptions)
	return stats.Size, err
}

func (b bootPartition) write(ctx context.Context, p *diskimage.Section) error {
	_, err := ext4.Write(ctx, p, b.tree, bootOptions)
	return err
}

var bootOptions = ext4.Options{Label: "sov-boot", ModTime: made}

type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Truncate(int64) error                   { return nil }

// bytesOf returns the 16 bytes of a GUID's text form, in its order.
func bytesOf(guid string) (b [16]byte) {
	raw, _ := hex.DecodeString(strings.ReplaceAll(guid, "-", "")) // diskimage.GUID returns valid hexadecimal
	copy(b[:], raw)
	return b
}

func serial(guid string) uint32 {
	b := bytesOf(guid)
	return binary.LittleEndian.Uint32(b[:])
}
