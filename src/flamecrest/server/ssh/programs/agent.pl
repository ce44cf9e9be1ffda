# The agent: answers questions about files on standard input and output, in order, and ends with its input. A question
# is a letter, the length of its text (32 bits) and the text. An answer is its length and a text that begins with = (the
# result), - (use SFTP: nothing was changed) or ~ (errno in decimal).
# Names are bytes. It needs perl 5.10 or later with 64-bit integers, and only core modules. sftp_server.pl lists what a
# source that is sent as one line must not contain.
use Errno qw(ENOENT);
use Fcntl qw(:mode O_CREAT O_EXCL O_NOCTTY O_NONBLOCK O_RDONLY O_WRONLY);

my $MAX_QUESTION = 262144;
my $MAX_ANSWER = 1048576;
my $fine = eval { require Time::HiRes; Time::HiRes->can("lstat") };
my $in = "";

# The first eleven fields of stat(2) of a path or an open file, and the nanoseconds of the fraction of its mtime.
# Time::HiRes gives times as doubles: their whole seconds are exact unless the fraction is 0 or was rounded up to a
# second. Then the seconds come from the plain stat.
sub stated {
  my ($file, $follow) = @_;
  my @plain;
  unless ($fine) {
    @plain = $follow ? stat $file : lstat $file or return;
    return (@plain[0 .. 10], 0);
  }
  my @s = $follow ? Time::HiRes::stat($file) : Time::HiRes::lstat($file) or return;
  my @t = (int $s[8], int $s[9], int $s[10]);
  my $part = $s[9] > 0 ? int(($s[9] - $t[1]) * 1e9 + .5) : 0;
  if ($t[0] == $s[8] or $t[1] == $s[9] or $t[2] == $s[10] or $t[0] < 0 or $t[1] < 0 or $t[2] < 0) {
    @plain = $follow ? stat $file : lstat $file or return;
    return (@plain[0 .. 10], $part);
  }
  return (@s[0 .. 7], @t, $part);
}
sub look {
  my ($path, $follow) = @_;
  my @s = stated($path, $follow);
  return @s ? "=@s" : "~" . ($errno + 0);
}

# the attributes of a regular file, and its content if it is small
sub whole {
  my ($most, $path) = split /\0/, $_[0], 2;
  # only a regular file is opened: to open another may block or have an effect
  my @there = stat $path or return "~" . ($errno + 0);
  return "-" unless S_ISREG($there[2]) and sysopen(my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  # regardless of PERL_UNICODE
  binmode $file;
  my @s = stated($file, 1);
  return "-" unless @s and S_ISREG($s[2]);
  return "=@s" if $s[7] > $most;
  my $data;
  my $n = sysread $file, $data, $s[7] + 1;
  return "-" unless defined $n and $n == $s[7];
  # a file that was written meanwhile is left to SFTP
  my @now = stated($file, 1);
  return "-" unless @now and $now[7] == $n and $now[9] == $s[9] and $now[11] == $s[11];
  return "=@s\0$data";
}

# writes a new file beside its target, with its mode and group, and renames it over the target
sub put {
  my ($mode, $new, $path, $data) = split /\0/, $_[0], 4;
  my @old = lstat $path;
  return "-" unless @old ? S_ISREG($old[2]) : $errno + 0 == ENOENT;
  $mode = S_IMODE($old[2]) if @old and $mode eq "";
  my $first = $mode eq "" ? 0666 : $mode & 0777 | 0200;
  sysopen(my $file, $new, O_WRONLY | O_CREAT | O_EXCL, $first) or return "-";
  my @s = eval { written($file, $data, $mode, @old) };
  return join " ", @old ? "=0" : "=1", @s if close $file and @s and rename $new, $path;
  unlink $new;
  return "-";
}
sub written {
  my ($file, $data, $mode, @old) = @_;
  binmode $file;
  my $done = 0;
  while ($done < length $data) {
    my $n = syswrite $file, $data, length($data) - $done, $done;
    return unless defined $n or $errno + 0 == EINTR;
    $done += $n || 0;
  }
  if (@old) {
    my @mine = stat $file or return;
    chown -1, $old[5], $file if $mine[5] ne $old[5];
  }
  # after the group: chown clears mode bits
  return if $mode ne "" and not chmod $mode, $file;
  return stated($file, 1);
}

# the entries of a directory that is not too large: the names of the owners, then mode, uid, gid, size and mtime of each
# entry, then the name of each entry, followed by the target if it is a link
sub list {
  my ($how, $most, $path) = split /\0/, $_[0], 3;
  my ($hidden, $follow) = (index($how, "h") >= 0, index($how, "f") >= 0);
  my @s = $follow || substr($path, -1) eq "/" ? stat $path : lstat $path;
  return "-" unless @s and S_ISDIR($s[2]) and opendir(my $folder, $path);
  return "-" unless chdir $folder;
  my ($count, $numbers, $names, $uid, $gid, %users, %groups) = (0, "", "", -1, -1);
  my ($x, $mode, $u, $g, $size, $mtime);
  $errno = 0;
  while (defined(my $name = readdir $folder)) {
    next if $hidden ? $name eq "." || $name eq ".." : substr($name, 0, 1) eq ".";
    return "-" if $count++ == $most or length $names > $MAX_ANSWER;
    unless (($x, $x, $mode, $x, $u, $g, $x, $size, $x, $mtime) = lstat $name) {
      $errno = 0;
      next;
    }
    $numbers .= "$mode $u $g $size $mtime ";
    $names .= "$name\0";
    unless ($u == $uid and $g == $gid) {
      ($uid, $gid) = ($u, $g);
      $users{$u} = $groups{$g} = 1;
    }
    if (($mode & 0170000) == 0120000) {
      return "-" if $follow;
      my $target = readlink $name;
      $names .= (defined $target ? $target : "") . "\0";
      $errno = 0;
    }
  }
  return "-" if $errno + 0;
  my @users = map { $_, owner(\%user, $_, sub { getpwuid $_[0] }) } keys %users;
  my @groups = map { $_, owner(\%group, $_, sub { getgrgid $_[0] }) } keys %groups;
  my $answer = "=" . join(":", @users) . "\0" . join(":", @groups) . "\0$numbers\0$names";
  return length $answer > $MAX_ANSWER ? "-" : $answer;
}

my %ANSWER = (
  l => sub { look($_[0], 0) },
  s => sub { look($_[0], 1) },
  r => \&whole,
  w => \&put,
  d => sub { my $answer = list($_[0]); chdir "/"; $answer },
);

while (1) {
  my $at = 0;
  while (length($in) - $at >= 5) {
    my ($letter, $size) = unpack "aN", substr $in, $at, 5;
    if ($size > $MAX_QUESTION) { flush(); exit 1 }
    last if length($in) - $at - 5 < $size;
    my $ask = $ANSWER{$letter};
    my $answer = $ask ? eval { $ask->(substr $in, $at + 5, $size) } : undef;
    $out .= pack "N/a*", defined $answer ? $answer : "-";
    $at += 5 + $size;
    flush() if length $out >= 32768;
  }
  flush();
  substr $in, 0, $at, "";
  my $n = sysread STDIN, $in, 65536, length $in;
  if (defined $n) { exit 0 unless $n } elsif ($errno + 0 - EINTR) { exit 1 }
}
