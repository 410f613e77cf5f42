/*
 * cpu/ir/interp_ops.h -- the interpreter's handlers, one for each row and size of uop.def. Included once,
 * inside interp_run(): r is the register file, u the running micro-op, b the running block.
 */
/* Labels and macros that stand for lines of a table. */
/* clang-format off */

/* -- Moves --------------------------------------------------------------------------------------------- */

#define H_MOVES(sz, bits, T, S, ...)                                                                         \
    MOV_##sz : WRITE_##sz(u->d, r[u->a]);                                                                    \
    NEXT;                                                                                                    \
    MOVI_##sz : WRITE_##sz(u->d, (uint64_t)u->imm);                                                          \
    NEXT;                                                                                                    \
    XCHG_##sz:                                                                                               \
    {                                                                                                        \
        uint64_t old = r[u->d];                                                                              \
        WRITE_##sz(u->d, r[u->a]);                                                                           \
        WRITE_##sz(u->a, old);                                                                               \
        NEXT;                                                                                                \
    }
FOR_ALL(H_MOVES, )

#define H_MOVES16(sz, bits, T, S, ...)                                                                       \
    MOVZX8_##sz : WRITE_##sz(u->d, (uint64_t)(uint8_t)r[u->a]);                                              \
    NEXT;                                                                                                    \
    MOVSX8_##sz : WRITE_##sz(u->d, (uint64_t)(int64_t)(int8_t)r[u->a]);                                      \
    NEXT;                                                                                                    \
    LEA_##sz : WRITE_##sz(u->d, cut_address(effective_address(r, u), AM_ASIZE(u->am)));                      \
    NEXT;                                                                                                    \
    CMOV_##sz : if (flags_condition(cpu, u->c)) WRITE_##sz(u->d, r[u->a]);                                   \
    else if (sz == 2) r[u->d] = (uint32_t)r[u->d];                                                           \
    NEXT;                                                                                                    \
    SIGN_##sz : WRITE_##sz(u->d, (S)r[u->a] < 0 ? ~0ull : 0ull);                                             \
    NEXT;
FOR_GE16(H_MOVES16, )

#define H_MOVES32(sz, bits, T, S, ...)                                                                       \
    MOVZX16_##sz : WRITE_##sz(u->d, (uint64_t)(uint16_t)r[u->a]);                                            \
    NEXT;                                                                                                    \
    MOVSX16_##sz : WRITE_##sz(u->d, (uint64_t)(int64_t)(int16_t)r[u->a]);                                    \
    NEXT;                                                                                                    \
    MOVSX32_##sz : WRITE_##sz(u->d, (uint64_t)(int64_t)(int32_t)r[u->a]);                                    \
    NEXT;                                                                                                    \
    BSWAP_##sz : WRITE_##sz(u->d, alu_bswap(sz, r[u->d]));                                                   \
    NEXT;
FOR_GE32(H_MOVES32, )

EXTH_0 : WRITE_3(u->d, r[u->a] >> 8 & 0xff);
NEXT;
INSH_0 : r[u->d] = (r[u->d] & ~0xff00ull) | (r[u->a] & 0xff) << 8;
NEXT;
SETCC_0 : WRITE_0(u->d, flags_condition(cpu, u->c));
NEXT;

/* -- Arithmetic ---------------------------------------------------------------------------------------- */

#define H_DAB(NAME, fn, sz)                                                                                  \
    NAME##_##sz : WRITE_##sz(u->d, fn(cpu, sz, r[u->a], r[u->b]));                                           \
    NEXT;
#define H_DAI(NAME, fn, sz)                                                                                  \
    NAME##_##sz : WRITE_##sz(u->d, fn(cpu, sz, r[u->a], (uint64_t)u->imm));                                  \
    NEXT;
#define H_DA(NAME, fn, sz)                                                                                   \
    NAME##_##sz : WRITE_##sz(u->d, fn(cpu, sz, r[u->a]));                                                    \
    NEXT;
#define H_BINARY(NAME, fn, sz) H_DAB(NAME, fn, sz) H_DAI(NAME##I, fn, sz)
#define H_PLAIN(NAME, expr_b, expr_i, sz)                                                                    \
    NAME##_NF_##sz : WRITE_##sz(u->d, expr_b);                                                               \
    NEXT;                                                                                                    \
    NAME##I_NF_##sz : WRITE_##sz(u->d, expr_i);                                                              \
    NEXT;

#define H_ARITHMETIC(sz, bits, T, S, ...)                                                                    \
    H_BINARY(ADD, alu_add, sz)                                                                               \
    H_BINARY(OR, alu_or, sz)                                                                                 \
    H_BINARY(ADC, alu_adc, sz)                                                                               \
    H_BINARY(SBB, alu_sbb, sz)                                                                               \
    H_BINARY(AND, alu_and, sz)                                                                               \
    H_BINARY(SUB, alu_sub, sz)                                                                               \
    H_BINARY(XOR, alu_xor, sz)                                                                               \
    CMP_##sz : alu_sub(cpu, sz, r[u->a], r[u->b]);                                                           \
    NEXT;                                                                                                    \
    CMPI_##sz : alu_sub(cpu, sz, r[u->a], (uint64_t)u->imm);                                                 \
    NEXT;                                                                                                    \
    TEST_##sz : alu_and(cpu, sz, r[u->a], r[u->b]);                                                          \
    NEXT;                                                                                                    \
    TESTI_##sz : alu_and(cpu, sz, r[u->a], (uint64_t)u->imm);                                                \
    NEXT;                                                                                                    \
    H_DA(INC, alu_inc, sz)                                                                                   \
    H_DA(DEC, alu_dec, sz)                                                                                   \
    H_DA(NEG, alu_neg, sz)                                                                                   \
    NOT_##sz : WRITE_##sz(u->d, ~r[u->a]);                                                                   \
    NEXT;                                                                                                    \
    H_PLAIN(ADD, r[u->a] + r[u->b], r[u->a] + (uint64_t)u->imm, sz)                                          \
    H_PLAIN(OR, r[u->a] | r[u->b], r[u->a] | (uint64_t)u->imm, sz)                                           \
    H_PLAIN(AND, r[u->a] & r[u->b], r[u->a] & (uint64_t)u->imm, sz)                                          \
    H_PLAIN(SUB, r[u->a] - r[u->b], r[u->a] - (uint64_t)u->imm, sz)                                          \
    H_PLAIN(XOR, r[u->a] ^ r[u->b], r[u->a] ^ (uint64_t)u->imm, sz)                                          \
    SHLI_NF_##sz : WRITE_##sz(u->d, (uint64_t)(T)r[u->a] << u->imm);                                         \
    NEXT;                                                                                                    \
    SHRI_NF_##sz : WRITE_##sz(u->d, (uint64_t)(T)r[u->a] >> u->imm);                                         \
    NEXT;                                                                                                    \
    SARI_NF_##sz : WRITE_##sz(u->d, (uint64_t)((int64_t)(S)r[u->a] >> u->imm));                              \
    NEXT;                                                                                                    \
    H_BINARY(SHL, alu_shl, sz)                                                                               \
    H_BINARY(SHR, alu_shr, sz)                                                                               \
    H_BINARY(SAR, alu_sar, sz)                                                                               \
    H_BINARY(ROL, alu_rol, sz)                                                                               \
    H_BINARY(ROR, alu_ror, sz)                                                                               \
    H_BINARY(RCL, alu_rcl, sz)                                                                               \
    H_BINARY(RCR, alu_rcr, sz)                                                                               \
    MUL_##sz : alu_mul(cpu, sz, r[u->a]);                                                                    \
    NEXT;                                                                                                    \
    IMUL_##sz : alu_imul(cpu, sz, r[u->a]);                                                                  \
    NEXT;                                                                                                    \
    DIV_##sz : if (unlikely(!alu_div(cpu, sz, r[u->a]))) goto divide_error;                                  \
    NEXT;                                                                                                    \
    IDIV_##sz : if (unlikely(!alu_idiv(cpu, sz, r[u->a]))) goto divide_error;                                \
    NEXT;                                                                                                    \
    CRC32_##sz : WRITE_2(u->d, alu_crc32(sz, r[u->a], r[u->b]));                                             \
    NEXT;
FOR_ALL(H_ARITHMETIC, )

#define H_BITS16(sz, bits, T, S, ...)                                                                        \
    SHLD_##sz : WRITE_##sz(u->d, alu_shld(cpu, sz, r[u->a], r[u->b], r[u->c]));                              \
    NEXT;                                                                                                    \
    SHLDI_##sz : WRITE_##sz(u->d, alu_shld(cpu, sz, r[u->a], r[u->b], (uint64_t)u->imm));                    \
    NEXT;                                                                                                    \
    SHRD_##sz : WRITE_##sz(u->d, alu_shrd(cpu, sz, r[u->a], r[u->b], r[u->c]));                              \
    NEXT;                                                                                                    \
    SHRDI_##sz : WRITE_##sz(u->d, alu_shrd(cpu, sz, r[u->a], r[u->b], (uint64_t)u->imm));                    \
    NEXT;                                                                                                    \
    H_DAB(IMUL2, alu_imul2, sz)                                                                              \
    H_DAI(IMULI, alu_imul2, sz)                                                                              \
    BT_##sz : alu_bt(cpu, sz, r[u->a], r[u->b]);                                                             \
    NEXT;                                                                                                    \
    BTI_##sz : alu_bt(cpu, sz, r[u->a], (uint64_t)u->imm);                                                   \
    NEXT;                                                                                                    \
    H_BINARY(BTS, alu_bts, sz)                                                                               \
    H_BINARY(BTR, alu_btr, sz)                                                                               \
    H_BINARY(BTC, alu_btc, sz)                                                                               \
    BSF_##sz:                                                                                                \
    {                                                                                                        \
        uint64_t v;                                                                                          \
        if (alu_bsf(cpu, sz, r[u->a], &v))                                                                   \
            WRITE_##sz(u->d, v);                                                                             \
        NEXT;                                                                                                \
    }                                                                                                        \
    BSR_##sz:                                                                                                \
    {                                                                                                        \
        uint64_t v;                                                                                          \
        if (alu_bsr(cpu, sz, r[u->a], &v))                                                                   \
            WRITE_##sz(u->d, v);                                                                             \
        NEXT;                                                                                                \
    }                                                                                                        \
    H_DA(POPCNT, alu_popcnt, sz)                                                                             \
    H_DA(LZCNT, alu_lzcnt, sz)                                                                               \
    H_DA(TZCNT, alu_tzcnt, sz)
FOR_GE16(H_BITS16, )

#define H_BITS32(sz, bits, T, S, ...)                                                                        \
    H_DAB(ANDN, alu_andn, sz)                                                                                \
    H_DAB(BEXTR, alu_bextr, sz)                                                                              \
    H_DA(BLSI, alu_blsi, sz)                                                                                 \
    H_DA(BLSMSK, alu_blsmsk, sz)                                                                             \
    H_DA(BLSR, alu_blsr, sz)                                                                                 \
    H_DAB(BZHI, alu_bzhi, sz)                                                                                \
    MULX_##sz:                                                                                               \
    {                                                                                                        \
        uint64_t low, high = alu_mulx(cpu, sz, r[u->a], &low);                                               \
        WRITE_##sz(u->c, low);                                                                               \
        WRITE_##sz(u->d, high);                                                                              \
        NEXT;                                                                                                \
    }                                                                                                        \
    PDEP_##sz : WRITE_##sz(u->d, alu_pdep(sz, r[u->a], r[u->b]));                                            \
    NEXT;                                                                                                    \
    PEXT_##sz : WRITE_##sz(u->d, alu_pext(sz, r[u->a], r[u->b]));                                            \
    NEXT;                                                                                                    \
    RORX_##sz : WRITE_##sz(u->d, alu_rorx(sz, r[u->a], (uint64_t)u->imm));                                   \
    NEXT;                                                                                                    \
    SARX_##sz : WRITE_##sz(u->d, alu_sarx(sz, r[u->a], r[u->b]));                                            \
    NEXT;                                                                                                    \
    SHLX_##sz : WRITE_##sz(u->d, alu_shlx(sz, r[u->a], r[u->b]));                                            \
    NEXT;                                                                                                    \
    SHRX_##sz : WRITE_##sz(u->d, alu_shrx(sz, r[u->a], r[u->b]));                                            \
    NEXT;                                                                                                    \
    H_DAB(ADCX, alu_adcx, sz)                                                                                \
    H_DAB(ADOX, alu_adox, sz)
FOR_GE32(H_BITS32, )

/* -- Flags --------------------------------------------------------------------------------------------- */

CLC_0 : alu_set_cf(cpu, 0);
NEXT;
STC_0 : alu_set_cf(cpu, 1);
NEXT;
CMC_0 : alu_set_cf(cpu, !flag_cf(cpu));
NEXT;
CLD_0 : cpu->rflags &= ~(uint64_t)FLAG_DF;
NEXT;
STD_0 : cpu->rflags |= FLAG_DF;
NEXT;
GETF_0 : r[u->d] = cpu_rflags(cpu);
NEXT;
SETF_0 : alu_setf(cpu, r[u->a], (uint64_t)u->imm);
NEXT;

/* -- Memory -------------------------------------------------------------------------------------------- */

#define ADDRESS_(size, access)   effective_address(r, u)
#define ADDRESS_S_(size, access) (cpu->seg[AM_SEG(u->am)].base + effective_address(r, u))
#define ADDRESS_G_(size, access) general_address(cpu, u, size, access)

#define H_LOAD_AS(P, NAME, sz, M, wr, hit, rmw, access)                                                      \
    P##NAME##_##sz:                                                                                          \
    {                                                                                                        \
        gva_t linear = ADDRESS_##P(sizeof(M), access);                                                       \
        const uint8_t *p = hit(cpu, linear, sizeof(M));                                                      \
        if (likely(p != NULL)) {                                                                             \
            M v;                                                                                             \
            __builtin_memcpy(&v, p, sizeof(v));                                                              \
            wr(u->d, (uint64_t)(int64_t)v);                                                                  \
            NEXT;                                                                                            \
        }                                                                                                    \
        cpu->uop = u;                                                                                        \
        M v = (M)mem_slow_read(cpu, AM_SEG(u->am), linear, sizeof(M), 0, rmw);                               \
        wr(u->d, (uint64_t)(int64_t)v);                                                                      \
        AFTER_SLOW;                                                                                          \
    }
#define H_LOAD(NAME, sz, M, wr)                                                                              \
    H_LOAD_AS(, NAME, sz, M, wr, mem_hit_read, false, MEM_READ)                                              \
    H_LOAD_AS(S_, NAME, sz, M, wr, mem_hit_read, false, MEM_READ)                                            \
    H_LOAD_AS(G_, NAME, sz, M, wr, mem_hit_read, false, MEM_READ)
#define H_LOADW(NAME, sz, M, wr)                                                                             \
    H_LOAD_AS(, NAME, sz, M, wr, mem_hit_write, true, MEM_RMW)                                               \
    H_LOAD_AS(S_, NAME, sz, M, wr, mem_hit_write, true, MEM_RMW)                                             \
    H_LOAD_AS(G_, NAME, sz, M, wr, mem_hit_write, true, MEM_RMW)
#define H_STORE_AS(P, NAME, sz, M, value)                                                                    \
    P##NAME##_##sz:                                                                                          \
    {                                                                                                        \
        gva_t linear = ADDRESS_##P(sizeof(M), MEM_WRITE);                                                    \
        uint8_t *p = mem_hit_write(cpu, linear, sizeof(M));                                                  \
        M v = (M)(value);                                                                                    \
        if (likely(p != NULL)) {                                                                             \
            __builtin_memcpy(p, &v, sizeof(v));                                                              \
            NEXT;                                                                                            \
        }                                                                                                    \
        cpu->uop = u;                                                                                        \
        mem_slow_write(cpu, AM_SEG(u->am), linear, sizeof(M), v, 0);                                         \
        AFTER_SLOW;                                                                                          \
    }
#define H_STORE(NAME, sz, M, value)                                                                          \
    H_STORE_AS(, NAME, sz, M, value)                                                                         \
    H_STORE_AS(S_, NAME, sz, M, value)                                                                       \
    H_STORE_AS(G_, NAME, sz, M, value)
#define H_VLOAD_AS(P, sz, M)                                                                                 \
    P##VLOAD_##sz:                                                                                           \
    {                                                                                                        \
        gva_t linear = ADDRESS_##P(sizeof(M), MEM_READ);                                                     \
        cpu->uop = u;                                                                                        \
        uint64_t v = mem_read(cpu, AM_SEG(u->am), linear, sizeof(M));                                        \
        cpu->v[u->d].q[0] = v;                                                                               \
        cpu->v[u->d].q[1] = 0;                                                                               \
        AFTER_SLOW;                                                                                          \
    }

#define H_MEMORY(sz, bits, T, S, ...)                                                                        \
    H_LOAD(LOAD, sz, T, WRITE_##sz)                                                                          \
    H_LOADW(LOADW, sz, T, WRITE_##sz)                                                                        \
    H_STORE(STORE, sz, T, r[u->d])                                                                           \
    H_STORE(STOREI, sz, T, u->imm)                                                                           \
    H_VLOAD_AS(, sz, T)                                                                                      \
    H_VLOAD_AS(S_, sz, T)                                                                                    \
    H_VLOAD_AS(G_, sz, T)                                                                                    \
    H_STORE(VSTORE, sz, T, cpu->v[u->d].q[0])
FOR_ALL(H_MEMORY, )

#define H_MEMORY16(sz, bits, T, S, ...)                                                                      \
    H_LOAD(LOADZX8, sz, uint8_t, WRITE_##sz)                                                                 \
    H_LOAD(LOADSX8, sz, int8_t, WRITE_##sz)                                                                  \
    PUSH_##sz:                                                                                               \
    {                                                                                                        \
        gva_t linear = r[REG_RSP] - sizeof(T);                                                               \
        uint8_t *p = mem_hit_write(cpu, linear, sizeof(T));                                                  \
        T v = (T)r[u->d];                                                                                    \
        if (likely(p != NULL)) {                                                                             \
            __builtin_memcpy(p, &v, sizeof(v));                                                              \
            r[REG_RSP] = linear;                                                                             \
            NEXT;                                                                                            \
        }                                                                                                    \
        cpu->uop = u;                                                                                        \
        mem_slow_write(cpu, SEG_SS, linear, sizeof(T), v, 0);                                                \
        r[REG_RSP] = linear;                                                                                 \
        AFTER_SLOW;                                                                                          \
    }                                                                                                        \
    PUSHI_##sz:                                                                                              \
    {                                                                                                        \
        gva_t linear = r[REG_RSP] - sizeof(T);                                                               \
        cpu->uop = u;                                                                                        \
        mem_write(cpu, SEG_SS, linear, sizeof(T), (T)u->imm);                                                \
        r[REG_RSP] = linear;                                                                                 \
        AFTER_SLOW;                                                                                          \
    }                                                                                                        \
    POP_##sz:                                                                                                \
    {                                                                                                        \
        gva_t linear = r[REG_RSP];                                                                           \
        const uint8_t *p = mem_hit_read(cpu, linear, sizeof(T));                                             \
        T v;                                                                                                 \
        if (likely(p != NULL)) {                                                                             \
            __builtin_memcpy(&v, p, sizeof(v));                                                              \
            r[REG_RSP] = linear + sizeof(T);                                                                 \
            WRITE_##sz(u->d, (uint64_t)v);                                                                   \
            NEXT;                                                                                            \
        }                                                                                                    \
        cpu->uop = u;                                                                                        \
        v = (T)mem_slow_read(cpu, SEG_SS, linear, sizeof(T), 0, false);                                      \
        r[REG_RSP] = linear + sizeof(T);                                                                     \
        WRITE_##sz(u->d, (uint64_t)v);                                                                       \
        AFTER_SLOW;                                                                                          \
    }                                                                                                        \
    G_PUSH_##sz:                                                                                             \
    {                                                                                                        \
        gva_t linear = stack_address(cpu, u, -(int)sizeof(T), sizeof(T), MEM_WRITE);                         \
        mem_write(cpu, SEG_SS, linear, sizeof(T), (T)r[u->d]);                                               \
        stack_move(cpu, AM_ASIZE(u->am), -(int)sizeof(T));                                                   \
        AFTER_SLOW;                                                                                          \
    }                                                                                                        \
    G_PUSHI_##sz:                                                                                            \
    {                                                                                                        \
        gva_t linear = stack_address(cpu, u, -(int)sizeof(T), sizeof(T), MEM_WRITE);                         \
        mem_write(cpu, SEG_SS, linear, sizeof(T), (T)u->imm);                                                \
        stack_move(cpu, AM_ASIZE(u->am), -(int)sizeof(T));                                                   \
        AFTER_SLOW;                                                                                          \
    }                                                                                                        \
    G_POP_##sz:                                                                                              \
    {                                                                                                        \
        gva_t linear = stack_address(cpu, u, 0, sizeof(T), MEM_READ);                                        \
        uint64_t v = mem_read(cpu, SEG_SS, linear, sizeof(T));                                               \
        stack_move(cpu, AM_ASIZE(u->am), sizeof(T));                                                         \
        WRITE_##sz(u->d, v);                                                                                 \
        AFTER_SLOW;                                                                                          \
    }
FOR_GE16(H_MEMORY16, )

#define H_MEMORY32(sz, bits, T, S, ...)                                                                      \
    H_LOAD(LOADZX16, sz, uint16_t, WRITE_##sz)                                                               \
    H_LOAD(LOADSX16, sz, int16_t, WRITE_##sz)                                                                \
    H_LOAD(LOADSX32, sz, int32_t, WRITE_##sz)
FOR_GE32(H_MEMORY32, )

#define H_VECTOR_WIDE(P, bytes)                                                                              \
    P##VLOAD##bytes##_0:                                                                                     \
    {                                                                                                        \
        gva_t linear = ADDRESS_##P(bytes, MEM_READ);                                                         \
        cpu->uop = u;                                                                                        \
        if (unlikely(u->imm && (linear & (bytes - 1))))                                                      \
            cpu_raise_gp0(cpu);                                                                              \
        mem_read##bytes(cpu, AM_SEG(u->am), linear, cpu->v[u->d].q);                                         \
        AFTER_SLOW;                                                                                          \
    }                                                                                                        \
    P##VSTORE##bytes##_0:                                                                                    \
    {                                                                                                        \
        gva_t linear = ADDRESS_##P(bytes, MEM_WRITE);                                                        \
        cpu->uop = u;                                                                                        \
        if (unlikely(u->imm && (linear & (bytes - 1))))                                                      \
            cpu_raise_gp0(cpu);                                                                              \
        mem_write##bytes(cpu, AM_SEG(u->am), linear, cpu->v[u->d].q);                                        \
        AFTER_SLOW;                                                                                          \
    }
H_VECTOR_WIDE(, 16)
H_VECTOR_WIDE(S_, 16)
H_VECTOR_WIDE(G_, 16)
H_VECTOR_WIDE(, 32)
H_VECTOR_WIDE(S_, 32)
H_VECTOR_WIDE(G_, 32)
VZHI_0 : cpu->v[u->d].q[2] = cpu->v[u->d].q[3] = 0;
NEXT;
VMOV_0 : cpu->v[u->d].q[0] = cpu->v[u->a].q[0];
cpu->v[u->d].q[1] = cpu->v[u->a].q[1];
NEXT;
VSTUB_0:
{
    const struct vec_stub *s = (const struct vec_stub *)(uintptr_t)u->imm;
    cpu->uop = u;
    s->run(cpu, u, s);
    NEXT;
}

/* -- Control ------------------------------------------------------------------------------------------- */

EXIT_0 : cpu->rip = r[REG_PAGE] + (uint64_t)u->imm;
if (unlikely(!(cpu->key & KEY_L)))
    cpu->rip = (uint32_t)cpu->rip;
link = 1;
goto chain;

/* Both ways of a conditional jump: link 0 taken, link 1 not. */
#define JUMP_IF(condition, size)                                                                             \
    do {                                                                                                     \
        if (condition) {                                                                                     \
            cpu->rip = direct_target(cpu, u, u->imm, size);                                                  \
            link = 0;                                                                                        \
        } else {                                                                                             \
            cpu->rip = r[REG_PAGE] + (uint64_t)(int64_t)u->disp;                                             \
            if (unlikely(!(cpu->key & KEY_L)))                                                               \
                cpu->rip = (uint32_t)cpu->rip;                                                               \
            link = 1;                                                                                        \
        }                                                                                                    \
        goto chain;                                                                                          \
    } while (0)

#define H_CONTROL(sz, bits, T, S, ...)                                                                       \
    JMP_##sz : cpu->rip = direct_target(cpu, u, u->imm, sz);                                                 \
    link = 0;                                                                                                \
    goto chain;                                                                                              \
    JCC_##sz : JUMP_IF(flags_condition(cpu, u->c), sz);                                                      \
    SIDE_##sz : if (flags_condition(cpu, u->c))                                                              \
    {                                                                                                        \
        block_pay(cpu, u->insn + 1 - cpu->block->insn_count);                                                \
        cpu->rip = r[REG_PAGE] + (uint64_t)u->imm;                                                           \
        goto indirect;                                                                                       \
    }                                                                                                        \
    NEXT;                                                                                                    \
    JNZR_##sz : JUMP_IF(cut_address(r[u->a], AM_ASIZE(u->am)) != 0, sz);                                     \
    JZR_##sz : JUMP_IF(cut_address(r[u->a], AM_ASIZE(u->am)) == 0, sz);                                      \
    LOOPCC_##sz : JUMP_IF(cut_address(r[u->a], AM_ASIZE(u->am)) != 0 && flags_condition(cpu, u->c), sz);     \
    CHECKT_##sz : check_target(cpu, u, cut_rip(r[u->a], sz));                                                \
    NEXT;                                                                                                    \
    JMPR_##sz:                                                                                               \
    {                                                                                                        \
        uint64_t rip = cut_rip(r[u->a], sz);                                                                 \
        check_target(cpu, u, rip);                                                                           \
        cpu->rip = rip;                                                                                      \
        goto indirect;                                                                                       \
    }
FOR_GE16(H_CONTROL, )

#define H_JCC_CC(cc) JCC_CC##cc : JUMP_IF(flags_condition(cpu, cc), u->size);
#define H_CMPJCC(NAME, sz, T, S, cc, bvalue)                                                                 \
    NAME##_##sz##_CC##cc:                                                                                    \
    {                                                                                                        \
        T a_ = (T)r[u->a], b_ = (T)(bvalue), res = (T)(a_ - b_);                                             \
        alu_flags_sub(cpu, sz, a_, b_, res);                                                                 \
        JUMP_IF(compare_condition(cc, a_, b_, (S)a_, (S)b_, (S)res, (S)((a_ ^ b_) & (a_ ^ res)) < 0), u->d); \
    }
#define H_TESTJCC(sz, T, S, cc)                                                                              \
    TESTJCC_##sz##_CC##cc:                                                                                   \
    {                                                                                                        \
        T res = (T)(r[u->a] & r[u->b]);                                                                      \
        alu_flags_logic(cpu, sz, res);                                                                       \
        JUMP_IF(compare_condition(cc, res, 0, (S)res, 0, (S)res, false), u->d);                              \
    }
#define EACH_CC(X, ...)                                                                                      \
    X(__VA_ARGS__, 0)                                                                                        \
    X(__VA_ARGS__, 1)                                                                                        \
    X(__VA_ARGS__, 2)                                                                                        \
    X(__VA_ARGS__, 3) X(__VA_ARGS__, 4) X(__VA_ARGS__, 5) X(__VA_ARGS__, 6) X(__VA_ARGS__, 7)                \
        X(__VA_ARGS__, 8) X(__VA_ARGS__, 9) X(__VA_ARGS__, 10) X(__VA_ARGS__, 11) X(__VA_ARGS__, 12)         \
            X(__VA_ARGS__, 13) X(__VA_ARGS__, 14) X(__VA_ARGS__, 15)
#define H_JCC_EACH(unused, cc)    H_JCC_CC(cc)
#define H_CMP_EACH(sz, T, S, cc)  H_CMPJCC(CMPJCC, sz, T, S, cc, r[u->b])
#define H_CMPI_EACH(sz, T, S, cc) H_CMPJCC(CMPIJCC, sz, T, S, cc, u->aux)
#define H_FUSED(sz, bits, T, S, ...)                                                                         \
    EACH_CC(H_CMP_EACH, sz, T, S)                                                                            \
    EACH_CC(H_CMPI_EACH, sz, T, S)                                                                           \
    EACH_CC(H_TESTJCC, sz, T, S)                                                                             \
    CMPJCC_##sz : CMPIJCC_##sz : TESTJCC_##sz : goto unknown;
EACH_CC(H_JCC_EACH, 0)
FOR_ALL(H_FUSED, )

/* -- Calls to C ---------------------------------------------------------------------------------------- */

RAISE_0 : cpu->uop = u;
cpu_raise(cpu, (unsigned)u->imm & 0xff, (uint32_t)((uint64_t)u->imm >> 16));
GUARD_0 : if (unlikely(cpu->vmx_guards >> u->imm & 1))
{
    cpu->uop = u;
    vmx_guard(cpu, (unsigned)u->imm);
}
NEXT;
HELPER_0 : HELPER_1 : HELPER_2 : HELPER_3:
{
    const struct helper_info *h = &helper_info[u->aux];
    cpu->uop = u;
    if (h->flags & (H_TIME | H_END))
        cpu_sync(cpu);
    h->fn(cpu, u);
    if (!(h->flags & H_END))
        AFTER_SLOW;
    cpu->rip = cpu->next_rip;
    goto indirect;
}
divide_error : cpu->uop = u;
cpu_raise(cpu, EXC_DE, 0);
/* clang-format on */
