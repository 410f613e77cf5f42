# systems.pl -- how tests/bench/run starts a guest on each system, and reads its serial port.
#
# Needs $main::root, $main::droste, $main::guest (scripts/guest-files), $main::work (a folder), $main::limit (seconds).
use strict;
use warnings;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our ($root, $droste, $guest, $work, $limit);
my $running = 0;    # process group

sub program_there {
    my ($name) = @_;
    return grep { -x "$_/$name" } split /:/, $ENV{PATH};
}

# Can the system be measured here? Returns the reason why not, or nothing.
sub system_missing {
    my ($system) = @_;
    if ($system eq 'jit') {
        return "no $droste" unless -x $droste;
        my ($line) = `'$droste' -help 2>&1` =~ /^(.*-accel .*)$/m;
        return "this droste has no JIT" unless ($line // '') =~ /\bjit\b/;
    }
    return "no $droste; run scripts/build" if $system eq 'interp' && !-x $droste;
    return "qemu-system-x86 is not installed" if $system eq 'tcg' && !program_there('qemu-system-x86_64');
    return "bochs is not installed" if $system eq 'bochs' && !program_there('bochs');
    return;
}

# --- Commands ------------------------------------------------------------

sub droste_command {
    my ($system, $memory, @more) = @_;
    return ($droste, '-accel', $system, '-m', $memory, '-smp', 1, '-nographic', '-no-reboot', @more);
}

sub qemu_command {
    my ($memory, @more) = @_;
    return ('qemu-system-x86_64', '-accel', 'tcg', '-cpu', 'max', '-smp', 1, '-m', $memory, '-nographic', '-no-reboot',
        '-net', 'none', @more);
}

sub megabytes {
    my ($size) = @_;
    my ($number, $unit) = $size =~ /^(\d+)([MG])$/ or die "bench: size $size\n";
    return $unit eq 'G' ? $number * 1024 : $number;
}

# A Linux host; $until: the text of its last line.
sub linux_command {
    my ($system, $initrd, $append, $memory, $until) = @_;
    my @boot = ('-kernel', "$guest/vmlinuz", '-initrd', $initrd, '-append', $append);
    return droste_command($system, $memory, @boot) if $system eq 'jit' || $system eq 'interp';
    return qemu_command($memory, @boot) if $system eq 'tcg';
    return ("$root/tests/bench/bochs-run", @boot, '-m', megabytes($memory), '-timeout', $limit, '-until', $until);
}

# A Multiboot image of tests/guest. Bochs takes it from a ROM of tests/guest/lib/rom.S, as tests/guest/run does.
sub image_command {
    my ($system, $image, $append, $memory) = @_;
    my $base = "$guest/bench/guest/$image";
    my @exit = ('-device', 'isa-debug-exit,iobase=0xf4,iosize=0x4');
    my @boot = ('-kernel', "$base.elf", '-append', $append, @exit);
    return droste_command($system, $memory, @boot) if $system eq 'jit' || $system eq 'interp';
    return qemu_command($memory, @boot) if $system eq 'tcg';
    my $flat = read_all("$base.flat");
    $flat .= "\0" x (-length($flat) & 3);
    my $last = read_all("$guest/bench/guest/rom.bin");    # 64 KB, with the reset vector
    my ($entry) = `readelf -h '$base.elf'` =~ /Entry point address:\s+(0x[0-9a-f]+)/
        or die "bench: no entry in $base\n";
    my $size = (length($flat) + 65536 + 0x1ffff) & ~0x1ffff;
    $size = 0x400000 if $size > 0x200000;
    substr($last, 0, 12) = pack('V3', 2**32 - $size, length $flat, hex $entry);
    substr($last, 16, length($append) + 1) = "$append\0";
    write_all("$work/rom", $flat . "\0" x ($size - length($flat) - 65536) . $last);
    write_all("$work/vga", pack('C3', 0x55, 0xaa, 1) . "\0" x 509);
    write_all("$work/commands", "c\n");
    unlink "$work/serial";
    system('mkfifo', "$work/serial") == 0 or die "bench: mkfifo failed\n";
    my $megabytes = megabytes($memory);
    write_all("$work/bochsrc", <<"RC");
plugin_ctrl: speaker=0
display_library: rfb, options="timeout=0"
cpu: model=corei7_icelake_u, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0
memory: guest=$megabytes, host=$megabytes
romimage: file=$work/rom
vgaromimage: file=$work/vga
pci: enabled=1, chipset=i440fx
clock: sync=none
com1: enabled=1, mode=file, dev=$work/serial
log: $work/bochs.log
panic: action=fatal
error: action=report
info: action=report
RC
    # The shell's own descriptor keeps the reader from waiting for Bochs, which may never open the file.
    my $script = <<'SH';
cd "$1"
exec 4<>serial
bochs -q -f bochsrc -rc commands >stdout 2>&1 </dev/null 4<&- &
bochs=$!
cat serial 4<&- &
wait $bochs
sleep 0.2
kill %2
SH
    return ('bash', '-c', $script, 'bash', $work);
}

sub read_all {
    my ($path) = @_;
    open(my $file, '<:raw', $path) or die "bench: $path: $!\n";
    local $/;
    return scalar <$file>;
}

sub write_all {
    my ($path, $text) = @_;
    open(my $file, '>:raw', $path) or die "bench: $path: $!\n";
    print $file $text;
    close $file or die "bench: $path: $!\n";
}

# --- Running -------------------------------------------------------------

# Ends the whole process group that read_serial started.
sub stop_running {
    return unless $running;
    kill 'TERM', -$running;
    for (1 .. 40) {
        last if waitpid($running, 1) != 0;    # WNOHANG
        select undef, undef, undef, 0.05;
    }
    kill 'KILL', -$running;
    waitpid $running, 0;
    $running = 0;
}

# Runs the command and calls $on_line->(line, its time, time of the start) for each line of its output, until that
# returns true, the command ends or the time is over. Returns the last lines, for people.
sub read_serial {
    my ($on_line, @command) = @_;
    pipe(my $out, my $in) or die "bench: pipe: $!\n";
    my $pid = fork // die "bench: fork: $!\n";
    if ($pid == 0) {
        setpgrp(0, 0);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $in;
        open STDERR, '>', "$work/err";
        close $out;
        exec @command or exit 127;
    }
    $running = $pid;
    close $in;
    my ($text, @last) = ('');
    my $begin = clock_gettime(CLOCK_MONOTONIC);
    READ: while (1) {
        my $left = $begin + $limit - clock_gettime(CLOCK_MONOTONIC);
        vec(my $ready = '', fileno $out, 1) = 1;
        if ($left <= 0 || select($ready, undef, undef, $left) == 0) {
            push @last, "(stopped after $limit seconds)";
            last;
        }
        my $got = sysread($out, $text, 65536, length $text);
        my $now = clock_gettime(CLOCK_MONOTONIC);
        last unless $got;
        while ($text =~ s/^(.*?)\r*\n//) {
            push @last, $1;
            shift @last if @last > 5;
            last READ if $on_line->($1, $now, $begin);
        }
    }
    stop_running();
    push @last, grep { length } (split /\n/, read_all("$work/err"))[-3 .. -1] if -s "$work/err";
    return grep { defined } @last;
}

1;
