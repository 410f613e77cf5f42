# rows.pl -- what tests/bench/run measures: one entry a row, in the order of the table.
#
# name    the row, for --only and JSON
# group   several rows under one name, for --only
# kind    where it runs: compute (a program in L1's user space), l2 (the same in L2's), nested (a row of the program
#         nested in L1), image (a guest image, with options and memory), boot (until a line of the kernels' boot), qemu
#         (until L2's init under Debian's qemu), derived (from the medians of other rows)
# unit    s, ms, us, ns: time for one of what is counted; MIPS; or a ratio of times
# per     how many of these one unit of the program or one loop is (default 1)
# cost    seconds one unit or loop takes on a slow system, for the first run; later the measured time is used
# most    no more than so many loops
# on      the systems it can run on
# goal    what the JIT has to reach: "abs<=250" in the row's unit, "native<=1.8" times native's value, "tcg>=3.5" times
#         as fast as tcg, "tcg<=0.5" of tcg's time, "abs>=0.95"
use strict;
use warnings;

my @all = qw(jit interp tcg bochs native);
my @guests = qw(jit interp tcg bochs);
my @fast = qw(jit interp tcg);
my @vmx = qw(jit interp bochs);    # tcg has no VMX
my @rows;
sub row { push @rows, {per => 1, name => shift, @_} }

# The compute set: programs of tests/bench/compute. A unit takes 10 to 50 ms natively.
my %goal = (
    (map { $_ => ['tcg>=1', 'native<=1.7'] } qw(x87)),
    (map { $_ => ['tcg>=8', 'native<=1.7'] } qw(sse2 autovec)),
    (map { $_ => ['tcg>=1', 'native<=2.5'] } qw(loadstore calls)),
    movs4k => ['tcg>=1', 'native<=4'],
);
my @set = qw(sort hash crc lz sha256 bytecode branches calls indirect loadstore chase4m chase64m random16m sse2 autovec
    x87 simdint movs4k);
for my $name (@set) {
    my %string = $name eq 'movs4k' ? (unit => 'ns', per => 20000, cost => 0.05) : (unit => 'ms', cost => 0.5);
    row $name, group => 'compute', kind => 'compute', %string, on => \@all,
        goal => $goal{$name} // ['tcg>=1'];
}
row 'compute-geomean', group => 'compute', kind => 'derived', unit => 'ms', from => [@set], how => 'geomean',
    goal => ['native<=1.8', 'tcg>=3.5'];
row 'stos4k', group => 'strings', kind => 'compute', unit => 'ns', per => 20000, cost => 0.05, on => \@all,
    goal => ['native<=4'];

# The guest's kernel at work.
my %kernel = (on => \@all, kind => 'compute', goal => ['tcg>=2']);
row 'syscall', group => 'kernel', %kernel, unit => 'ns', per => 50000, cost => 0.05;
row 'pipe', group => 'kernel', %kernel, unit => 'us', per => 2000, cost => 0.05;
row 'forkexec', group => 'kernel', %kernel, unit => 'us', per => 20, cost => 0.05;
row 'mmap', group => 'kernel', %kernel, unit => 'us', per => 40, cost => 0.05;
row 'fault', group => 'kernel', kind => 'compute', on => \@all, unit => 'ns', per => 10240, cost => 0.05;
row 'cr3-touch', group => 'cr3', kind => 'image', unit => 'ns', image => 'bench_cr3', options => '', cost => 1e-6,
    on => \@guests, goal => ['abs<=250'];

# Boots: host time between lines of the serial port.
row 'boot-l1', group => 'boot', kind => 'boot', unit => 's', on => \@guests, goal => ['tcg<=0.5'];
row 'boot-start', group => 'boot', kind => 'boot', unit => 's', on => \@fast, goal => ['tcg<=0.5'];
row 'boot-l2', group => 'boot', kind => 'boot', unit => 's', on => \@fast;
row 'boot-both', group => 'boot', kind => 'boot', unit => 's', on => \@fast;
row 'boot-ratio', group => 'boot', kind => 'derived', unit => 'ratio', from => ['boot-l2', 'boot-start'],
    how => 'ratio', goal => ['abs<=1.5'];
row 'qemu-microvm', group => 'qemu', kind => 'qemu', unit => 's', on => \@guests, goal => ['abs<=2'];

# VM exits, without and with Linux's KVM.
my %exit = (group => 'exits', kind => 'image', unit => 'ns', image => 'bench_exit', cost => 3e-7, on => \@vmx);
row 'exit-skip', %exit, options => 'mode=skip', goal => ['abs<=150'];
row 'exit-pair', %exit, options => 'mode=pair';
row 'exit-handler', %exit, options => 'mode=handler', cost => 1e-6;
row 'vmread', %exit, options => 'mode=vmread', per => 8;
row 'vmwrite', %exit, options => 'mode=vmwrite', per => 8;
my %nested = (kind => 'nested', on => \@guests);
row 'l2-cpuid', %nested, group => 'exits', unit => 'us', cost => 2e-5, goal => ['abs<=2'];
row 'l2-port', %nested, group => 'exits', unit => 'us', cost => 5e-5, goal => ['abs<=8'];
row 'l2-touch', %nested, group => 'exits', unit => 'us', cost => 5e-5, most => 60000, goal => ['abs<=10'];
row 'l2-touch-new', %nested, group => 'exits', unit => 'us', cost => 6e-5, most => 60000;
row 'cr3-l2', group => 'cr3', kind => 'image', unit => 'ns', image => 'bench_cr3', options => 'where=l2 pages=0',
    cost => 1e-6, on => \@vmx, goal => ['abs<=60'];
row 'cr3-touch-l2', group => 'cr3', kind => 'image', unit => 'ns', image => 'bench_cr3', options => 'where=l2',
    cost => 1e-6, on => \@vmx;
row 'l2-cr3-kvm', %nested, group => 'cr3', unit => 'ns', per => 2, cost => 1e-6, goal => ['abs<=60'];

# L2 against L1.
row "l2-$_->{name}", %$_, name => "l2-$_->{name}", group => 'l2-compute', kind => 'l2', on => \@fast, goal => undef
    for grep { $_->{group} eq 'compute' && $_->{kind} eq 'compute' } @rows;
row 'l2-compute', group => 'l2-compute', kind => 'derived', unit => 'speed', how => 'speed', goal => ['abs>=0.95'],
    from => [(map { "l2-$_" } @set), @set];
row 'l2-fault', group => 'l2-kernel', kind => 'l2', on => \@fast, unit => 'ns', per => 10240, cost => 0.1;
row 'fault-ratio', group => 'l2-kernel', kind => 'derived', unit => 'ratio', from => ['l2-fault', 'fault'],
    how => 'ratio', goal => ['abs<=1.5'];
my %walk = (group => 'walk', kind => 'nested', unit => 'ns', cost => 2e-7, on => \@fast);
row $_, %walk for qw(walk-l1 walk-l2-2m walk-l2-4k);
row 'walk-ratio-2m', group => 'walk', kind => 'derived', unit => 'ratio', from => ['walk-l2-2m', 'walk-l1'],
    how => 'ratio', goal => ['abs<=1.3'];
row 'walk-ratio-4k', group => 'walk', kind => 'derived', unit => 'ratio', from => ['walk-l2-4k', 'walk-l1'],
    how => 'ratio';

# Cost as work grows.
for my $mode (qw(vmcs ept vmfunc)) {
    row "$mode-$_", group => 'many', kind => 'image', unit => 'ns', image => 'bench_many',
        options => "mode=$mode count=$_", cost => 2e-6, on => ($mode eq 'vmfunc' ? [qw(jit interp)] : \@vmx)
        for 1, 8, 64;
    row "$mode-flat", group => 'many', kind => 'derived', unit => 'ratio', from => ["$mode-64", "$mode-1"],
        how => 'ratio', goal => ['abs<=1.25'];
}
my @sizes = qw(128M 512M 2G 8G);
row 'memory-' . lc $_, group => 'memory', kind => 'image', unit => 'MIPS', per => 9, image => 'bench_memory',
    options => '', memory => $_, cost => 1.5e-7, on => ($_ eq '8G' || $_ eq '2G' ? \@fast : \@guests)
    for @sizes;
row 'memory-flat', group => 'memory', kind => 'derived', unit => 'speed', from => ['memory-8g', 'memory-128m'],
    how => 'ratio', goal => ['abs>=0.9'];

return {rows => \@rows, set => \@set};
